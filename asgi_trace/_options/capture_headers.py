"""Which headers the developer wants to see on a span, and as what.

Names come from an option and from the environment; both are regular expressions that match a whole name in any case.
Values that carry credentials are masked, whichever pattern asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .._types import Attributes, Headers
from .patterns import compile_patterns, environment_patterns
from .redact import REDACTED, Redaction
from .text import MOST_TEXT, recordable

_MOST_CHARACTERS = 16 * MOST_TEXT


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
        self._prefix = prefix
        self._redaction = redaction

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def attributes(self, headers: Headers) -> Attributes:
        """One attribute for each wanted name that is there, each value cut at 4,096 characters.

        Lines that follow after 65,536 characters of names and values are left out: a pattern like `.*` lets the caller
        choose both.
        """
        found: dict[str, list[str]] = {}
        room = _MOST_CHARACTERS
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if any(pattern.fullmatch(name) for pattern in self._wanted):
                value = raw_value[:MOST_TEXT].decode("latin-1")
                room -= len(name) + len(value)
                if room < 0:
                    break
                found.setdefault(self._prefix + name, []).append(self._shown(name, value))
        return dict(found)

    def _shown(self, name: str, value: str) -> str:
        if any(pattern.search(name) for pattern in self._masked):
            return REDACTED
        return recordable(self._redaction.header(name, value))  # cut again: masking may have made it longer
