"""Which headers the developer wants to see on a span, and as what.

Names come from an option and, as patterns, from the environment. Credentials are masked whoever asks for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from .._types import Attributes, Headers
from .checks import texts
from .redact import Redaction


class HeaderCapture:
    """The headers that the developer asked for, as span attributes: a list with one item per header line.

    `names` are exact, in any case. `variable` names an environment variable with a comma-separated list of regular
    expressions that must match a whole name, as elsewhere in OpenTelemetry. Credentials are masked.
    """

    def __init__(self, prefix: str, names: str | Iterable[str], variable: str, redaction: Redaction) -> None:
        option = f"capture_{prefix.split('.')[1]}_headers"
        exact = {name.lower() for name in texts(option, names, "header names like 'x-request-id'")}
        patterns = [re.escape(name) for name in exact] + _patterns(variable)
        sanitized = _patterns("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS")
        self._wanted = re.compile("|".join(f"(?:{p})" for p in patterns), re.IGNORECASE) if patterns else None
        self._masked = re.compile("|".join(f"(?:{p})" for p in sanitized), re.IGNORECASE) if sanitized else None
        self._prefix = prefix
        self._redaction = redaction

    def __bool__(self) -> bool:
        return self._wanted is not None

    def attributes(self, headers: Headers) -> Attributes:
        """One attribute for each wanted name that is there."""
        found: dict[str, list[str]] = {}
        if self._wanted is not None:
            for raw_name, raw_value in headers:
                name = raw_name.decode("latin-1").lower()
                if self._wanted.fullmatch(name):
                    value = raw_value.decode("latin-1")
                    found.setdefault(self._prefix + name, []).append(self._shown(name, value))
        return dict(found)

    def _shown(self, name: str, value: str) -> str:
        if self._masked is not None and self._masked.search(name):
            return "REDACTED"
        return self._redaction.header(name, value)


def _patterns(variable: str) -> list[str]:
    """The regular expressions of a list in the environment; one that does not compile matches its own text."""
    found = []
    for item in os.environ.get(variable, "").split(","):
        if pattern := item.strip():
            try:
                re.compile(pattern)
            except re.error:
                pattern = re.escape(pattern)
            found.append(pattern)
    return found
