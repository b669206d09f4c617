"""Text from the network made harmless, and cut to its place."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_trace.viewer.text import block, clip, columns, duration, one_line, pad, plural


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07name", "name"),
        ("\x1b]52;c;c2VjcmV0\x1b\\name", "name"),
        ("\x1bP1$r\x1b\\name", "name"),
        ("\x9b31mred", "red"),
        ("\x1bcreset", "reset"),
        ("up\x1b[2Aover", "upover"),
        ("over\rwritten", "over written"),
        ("two\nlines", "two lines"),
        ("bell\x07back\x08", "bellback"),
        ("\u202egnp.exe", "gnp.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("half\ud800a", "halfa"),
        ("line\u2028separator", "line separator"),
        ("plain", "plain"),
        ("Größe 日本", "Größe 日本"),
    ],
)
def test_one_line_is_harmless(hostile: str, shown: str) -> None:
    """Escape sequences, controls, invisible and direction characters never reach the terminal."""
    assert one_line(hostile) == shown


@given(st.text())
def test_any_text_becomes_printable(text: str) -> None:
    """Whatever comes in, one printable line comes out, and a block has nothing but line feeds besides."""
    for line in [one_line(text), *block(text).split("\n")]:
        assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in line)
    assert "\n" not in one_line(text)


def test_block_keeps_lines_and_indentation() -> None:
    """A stack trace keeps its shape."""
    assert block("a\r\n\tb\n  \x1b[1mc\x1b[0m  ") == "a\n    b\n  c"


@given(st.text(), st.integers(0, 40))
def test_clipped_text_fits(text: str, width: int) -> None:
    """Clipped text never takes more columns than asked for."""
    assert columns(clip(one_line(text), width)) <= width


def test_wide_and_combining_characters_count_as_the_terminal_counts() -> None:
    """A CJK character takes two columns, a combining accent none."""
    assert [columns("ab"), columns("日本"), columns("e\u0301")] == [2, 4, 1]
    assert clip("日本語", 5) == "日本…"
    assert clip("abcdef", 5) == "abcd…"
    assert pad("日", 4) == "日  "
    assert pad("7", 3, right=True) == "  7"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 µs"),
        (850_000, "850 µs"),
        (999_600, "1.0 ms"),
        (12_340_000, "12.3 ms"),
        (99_960_000, "100 ms"),
        (640_000_000, "640 ms"),
        (1_240_000_000, "1.24 s"),
        (150_000_000_000, "2.5 min"),
        (-2_500_000, "-2.5 ms"),
    ],
)
def test_durations_read_well(nanoseconds: int, text: str) -> None:
    """A duration is shown in the unit that reads best."""
    assert duration(nanoseconds) == text


def test_plurals() -> None:
    """One span, two spans."""
    assert [plural(1, "span"), plural(12_000, "span")] == ["1 span", "12,000 spans"]
