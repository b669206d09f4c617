"""Which headers the developer wants to see on a span, and as what.

Names come from an option and from the environment; both are regular expressions that match a whole name in any case.
Values that carry credentials are masked, whichever pattern asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .._types import Attributes, Headers
from .patterns import compile_patterns, environment_patterns
from .redact import Redaction, masked
from .text import MOST_TEXT

_MOST_BYTES = 16 * MOST_TEXT
_MOST_NAMES, _LONGEST_NAME = 512, 64  # that are remembered: a caller may invent any number of any length


class HeaderCapture:
    """The headers that the developer asked for, as span attributes: a list with one item per header line.

    `prefix` stands in front of the header's name in the attribute's. `names` are those of the option called `option`;
    the environment variable `variable` adds others, in a comma-separated list.
    Raises ValueError for a name that is not a regular expression, TypeError for one that is not a string.
    """

    def __init__(
        self, prefix: str, option: str, names: str | Iterable[str], variable: str, redaction: Redaction
    ) -> None:
        example = "'x-request-id' or 'x-.*'"
        self._wanted = [
            *compile_patterns(option, names, f"header names like {example}", example, re.IGNORECASE),
            *environment_patterns(variable, flags=re.IGNORECASE),
        ]
        self._masked = environment_patterns(
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", flags=re.IGNORECASE
        )
        self._kept: dict[bytes, tuple[str, Callable[[str], str]] | tuple[()]] = {}
        """What is known of names as they were sent: patterns are slow, and most requests have the same few names."""
        self._prefix = prefix
        self._redaction = redaction

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def attributes(self, headers: Headers) -> Attributes:
        """One attribute for each wanted name that is there, each value cut at 4,096 characters.

        Lines that follow after 65,536 bytes of names and values are left out: a pattern like `.*` lets the caller
        choose both.
        """
        found: dict[str, list[str]] = {}
        room = _MOST_BYTES
        for raw_name, raw_value in headers:
            try:
                kept = self._kept.get(raw_name)
            except TypeError:  # a bytearray, which no dict takes as a key
                raw_name = bytes(raw_name)
                kept = None
            if kept is None:
                kept = self._look(raw_name)
            if kept:
                key, show = kept
                value = show(raw_value[:MOST_TEXT].decode("latin-1"))[:MOST_TEXT]  # masking may have made it longer
                room -= len(raw_name) + len(value)
                if room < 0:
                    break
                found.setdefault(key, []).append(value)
        return dict(found)

    def _look(self, raw_name: bytes) -> tuple[str, Callable[[str], str]] | tuple[()]:
        """The attribute of a header and what shows its values; nothing for one that is not wanted. Remembered."""
        name = raw_name.decode("latin-1").lower()
        kept: tuple[str, Callable[[str], str]] | tuple[()] = ()
        if any(pattern.fullmatch(name) for pattern in self._wanted):
            is_masked = any(pattern.search(name) for pattern in self._masked)
            kept = self._prefix + name, masked if is_masked else self._redaction.of_header(name)
        if len(self._kept) < _MOST_NAMES and len(raw_name) <= _LONGEST_NAME:
            self._kept[raw_name] = kept
        return kept
