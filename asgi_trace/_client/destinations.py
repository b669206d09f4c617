"""Where may this service's trace context and baggage be sent?

No specification rules on it, so the default is what every OpenTelemetry library does: send everywhere. The option takes
host patterns, or a callable that decides alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from .._guard import guarded_decision

__all__ = ["Destinations"]


class Destinations:
    """Where trace context and baggage may be sent: host patterns or a callable of the URL; None is everywhere.

    `*` and `?` are wildcards, letters match in either case, and `*.good.test` means the hosts below `good.test`, not
    itself. A pattern with a port (`api.test:8443`) counts for that port only.
    Raises ValueError for a pattern that cannot be a host.
    """

    def __init__(self, propagate_to: str | Iterable[str] | Callable[[Any], bool] | None) -> None:
        self.everywhere = propagate_to is None
        self._decide: Callable[[Any], bool] | None = None
        self._patterns: tuple[tuple[re.Pattern[str], int | None], ...] = ()
        if callable(propagate_to):
            self._decide = guarded_decision(propagate_to)
        elif propagate_to is not None:
            hosts = (propagate_to,) if isinstance(propagate_to, str) else propagate_to
            self._patterns = tuple(_host_pattern(host) for host in hosts)

    def allow(self, url: Any, host: str, port: int) -> bool:
        """May a request to `url` carry our context, where that is not allowed `everywhere`?

        `host` is without brackets, `port` as used on the wire.
        """
        if self._decide is not None:
            return self._decide(url)
        host = host.lower().rstrip(".")
        return any(pattern.fullmatch(host) and wanted in (None, port) for pattern, wanted in self._patterns)


_HOST_PATTERN = re.compile(
    r"(?:\[([0-9a-fA-F:.*?]+)\]|([^\[\]/@:\s]+)|([0-9a-fA-F.:*?]*:[0-9a-fA-F.:*?]*:[^\s/@]*))(?::(\d+))?"
)


def _host_pattern(text: str) -> tuple[re.Pattern[str], int | None]:
    match = _HOST_PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"propagate_to: {text!r} is not a host pattern; write one like 'api.test' or '*.test:8443'")
    host = (match[1] or match[2] or match[3]).lower().rstrip(".")
    glob = re.escape(host).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(glob), int(match[4]) if match[4] else None
