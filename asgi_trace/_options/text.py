"""Text as it is recorded: text that an exporter can encode, and at most so many characters of it.

How much is recorded is not the caller's choice: one header of 5 MB would make a batch too large to be exported, with
the spans of every other caller in it. Limits of the SDK that are lower still apply.
"""

from __future__ import annotations

__all__ = ["MOST_DESCRIPTION", "MOST_STACK_TRACE", "MOST_TEXT", "encodable", "recordable", "without_middle"]

MOST_TEXT = 4096
"""Characters of one value from the wire, and of an exception's message."""
MOST_DESCRIPTION = 1024
"""Characters of a status description."""
MOST_STACK_TRACE = 32_768
"""Characters of a stack trace."""

_NOTE = 64  # characters that the note about what is left out may take


def encodable(value: str) -> str:
    """`value` with every lone surrogate replaced: UTF-8 has none, and one of them costs an exporter its batch."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def recordable(value: str, most: int = MOST_TEXT) -> str:
    """The first `most` characters of `value`, as `encodable()` returns them."""
    return encodable(value if len(value) <= most else value[:most])


def without_middle(value: str, most: int) -> str:
    """`value`, or its beginning and its end with a note of what is left out between them: `most` characters in all.

    Lone surrogates are replaced, as in `recordable`.
    """
    if len(value) > most:
        kept = most - _NOTE
        head, tail = value[: kept // 2], value[len(value) - (kept - kept // 2) :]
        value = f"{head}\n[... {len(value) - kept} characters are left out here ...]\n{tail}"
    return recordable(value, most)
