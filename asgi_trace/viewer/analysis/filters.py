"""The filters of the list, as they stand in a URL: parsed once, then asked of each trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from ..receive.records import Value
from ..receive.store import Trace
from .overview import Overview

_ATTRIBUTE = re.compile(r"([A-Za-z_][\w.\-]{0,200})=(.*)", re.DOTALL)
_MINIMUM = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s)", re.ASCII)
PAGE, MAX_LIMIT = 100, 10_000


class BadFilter(ValueError):
    """A filter's value cannot be used. The message says what to write."""


@dataclass(frozen=True)
class Filters:
    """What the list is asked for. `minimum` is in nanoseconds, `route` is the exact template."""

    q: str = ""
    service: str = ""
    status: str = ""
    minimum_text: str = ""
    minimum: int = 0
    route: str = ""
    limit: int = PAGE

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Filters:
        """The filters in a query string; empty values are none. Raises `BadFilter`."""
        status = query.get("status", "")
        if status not in ("", "failed", "ok"):
            raise BadFilter(f"status is 'failed' or 'ok', not {status!r}")
        text = query.get("min", "").strip()
        found = _MINIMUM.fullmatch(text)
        if text and found is None:
            raise BadFilter(f"min is a duration as '200ms' or '1.5s', not {text!r}")
        limit = query.get("limit", "") or str(PAGE)
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= MAX_LIMIT and len(limit) < 9):
            raise BadFilter(f"limit is a whole number from 1 to {MAX_LIMIT}, not {limit!r}")
        minimum = int(float(found[1]) * (1e6 if found[2] == "ms" else 1e9)) if found else 0
        q, service, route = query.get("q", "").strip(), query.get("service", ""), query.get("route", "")
        return cls(q, service, status, text, minimum, route, int(limit))

    def url(self, **changes: object) -> str:
        """The address of the list with these filters, after `changes`: a filter is a link."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]
        pairs = {
            "q": wanted.q,
            "service": wanted.service,
            "status": wanted.status,
            "min": wanted.minimum_text,
            "route": wanted.route,
            "limit": str(wanted.limit) if wanted.limit != PAGE else "",
        }
        query = urlencode({name: value for name, value in pairs.items() if value}, errors="replace")
        return f"/?{query}" if query else "/"

    @property
    def any(self) -> bool:
        """Is anything filtered?"""
        return bool(self.q or self.service or self.status or self.minimum or self.route)

    @property
    def attribute(self) -> tuple[str, str] | None:
        """`key=value` in `q`, as the two; None when it is text."""
        found = _ATTRIBUTE.fullmatch(self.q)
        return (found[1], found[2]) if found else None

    def admits(self, row: Overview) -> bool:
        """Does the row pass all filters but `q`?"""
        if self.status and row.failed is not (self.status == "failed"):
            return False
        if self.service and self.service not in row.services:
            return False
        if self.route and self.route != row.route:
            return False
        return not self.minimum or (row.duration is not None and row.duration >= self.minimum)


def haystack(trace: Trace, row: Overview) -> str:
    """Everything that `q` is searched in as text, in one case."""
    parts = [trace.trace_id, row.path or "", row.name, row.route or "", row.cause or "", row.remark or ""]
    parts += row.services
    for span in trace.spans.values():
        parts += (span.span_id, span.name)
    parts += (log.body for log in trace.logs)
    return "\n".join(parts).casefold()


def has_attribute(trace: Trace, key: str, value: str) -> bool:
    """Does a span, a log line or a resource of the trace have exactly this attribute? Numbers are compared as text."""
    holders = [
        *((span.attributes, span.resource) for span in trace.spans.values()),
        *((log.attributes, log.resource) for log in trace.logs),
    ]
    return any(key in values and as_text(values[key]) == value for pair in holders for values in pair)


def as_text(value: Value) -> str:
    """A value as it is written in a filter."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
