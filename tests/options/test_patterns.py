"""Lists of regular expressions, from options and from the environment."""

from __future__ import annotations

import re
from typing import Any

import pytest

from asgi_trace._options.patterns import compile_patterns, environment_patterns


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, []),
        ({"A": ""}, []),
        ({"A": " , ,"}, []),
        ({"A": "x"}, ["x"]),
        ({"A": " x , ^y$ "}, ["x", "^y$"]),
        ({"A": "x", "B": "y"}, ["x", "y"]),
        ({"A": "", "B": "y,z"}, ["y", "z"]),
    ],
)
def test_the_variables_are_a_union(values: dict[str, str], found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a comma-separated list, blanks around an item do not count, and all of them add up."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert [pattern.pattern for pattern in environment_patterns("A", "B")] == found


@pytest.mark.parametrize("wrong", ["(", "*/health", "[a", "a{2}{3}", "(?P<n>a)(?P<n>b)"])
def test_a_wrong_pattern_in_the_environment_is_its_own_text(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It never stops a service: one warning names the variable, and the other patterns count."""
    monkeypatch.setenv("A", f"x,{wrong},y")
    patterns = environment_patterns("A")
    assert [bool(pattern.search(f"--{wrong}--")) for pattern in patterns] == ["x" in wrong, True, "y" in wrong]
    assert len(patterns) == 3
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"A: {wrong!r} is not a regular expression")


def test_flags_count_for_all_patterns(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Also for one that does not compile."""
    monkeypatch.setenv("A", "abc,(x")
    assert [bool(p.search("ABC (X")) for p in environment_patterns("A", flags=re.IGNORECASE)] == [True, True]
    assert "A: '(x'" in caplog.text


@pytest.mark.parametrize(
    ("patterns", "error", "words"),
    [
        ("(", ValueError, r"option: '\(' is not a regular expression \(.*\); write it like 'a.*'"),
        (["a", "["], ValueError, r"option: '\[' is not a regular expression"),
        (7, TypeError, r"option: 7 is not a string; write patterns like 'a.*', or \(\) for none"),
        (["a", b"b"], TypeError, "option: b'b' is not a string"),
    ],
)
def test_a_wrong_pattern_in_an_option_raises(patterns: Any, error: type[Exception], words: str) -> None:
    """The message names the option and the value, and says what to write."""
    with pytest.raises(error, match=words):
        compile_patterns("option", patterns, "patterns like 'a.*'", "'a.*'")
