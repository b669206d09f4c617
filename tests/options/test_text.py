"""Text as it is recorded: encodable, and no longer than it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_trace._options.text import recordable, without_middle


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("x" * 9, "x" * 9),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 10),
        ("ü" * 11, "ü" * 10),
        ("a\udc80b", "a?b"),
        ("\ud83d" * 12, "?" * 10),
    ],
)
def test_text_is_cut_and_can_be_encoded(value: str, expected: str) -> None:
    """What is too long loses its end, and a lone surrogate is a question mark."""
    assert recordable(value, 10) == expected


@given(st.text(alphabet=st.sampled_from("ab\nü\udc80"), max_size=600), st.integers(100, 300))
def test_a_text_without_its_middle_has_both_ends(value: str, most: int) -> None:
    """Within the limit nothing changes; beyond it both ends stay, and the note between them counts what is missing."""
    kept = without_middle(value, most)
    assert len(kept) <= most
    kept.encode()
    if len(value) <= most:
        assert kept == recordable(value, most)
        return
    head, note, tail = kept.partition("\n[... ")
    number, words, tail = tail.partition(" characters are left out here ...]\n")
    plain = value.replace("\udc80", "?")
    assert note
    assert words
    assert plain.startswith(head)
    assert plain.endswith(tail)
    assert len(head) + len(tail) + int(number) == len(value)
    assert abs(len(head) - len(tail)) <= 1
