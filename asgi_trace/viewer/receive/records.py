"""What a sender reports, free of protocol and presentation: spans, events, links, log lines, histogram points.

Times are Unix nanoseconds on the sender's clock, ids are lower-case hex, texts are as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | dict[str, Value] | None"
Values: TypeAlias = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment of a span, an exception for example. `time` is in Unix nanoseconds."""

    name: str
    time: int
    attributes: Values


@dataclass(frozen=True, slots=True)
class Link:
    """A pointer to a span elsewhere."""

    trace_id: str
    span_id: str
    attributes: Values


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span as its service reported it. Ids are lower-case hex, `parent_id` is empty for a root, times are Unix
    nanoseconds on the clock of the service that wrote them, `status` is `UNSET`, `OK` or `ERROR`.

    `size` is about what the record costs in memory, in bytes; `resource` is shared by the spans of one export.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    instance: str
    start: int
    end: int
    status: str = "UNSET"
    message: str = ""
    attributes: Values = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    scope: str = ""
    size: int = 0
    resource: Mapping[str, Value] = field(default_factory=dict)

    @property
    def duration(self) -> int | None:
        """How long it took, in nanoseconds; None where start or end is missing, or the end lies before the start."""
        return self.end - self.start if self.start > 0 and self.end >= self.start else None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line. `trace_id` and `span_id` are empty when it was written outside a request."""

    time: int
    severity: str
    body: str
    service: str
    logger: str = ""
    trace_id: str = ""
    span_id: str = ""
    attributes: Values = field(default_factory=dict)
    size: int = 0
    resource: Mapping[str, Value] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """The severity as one of `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL`, or its first letters."""
        severity = self.severity.upper()
        return {"WARNING": "WARN", "CRITICAL": "FATAL", "EMERGENCY": "FATAL", "ERR": "ERROR"}.get(
            severity, severity.rstrip("234")[:5]
        )

    @property
    def is_error(self) -> bool:
        """Was it written at ERROR or above?"""
        return self.level in ("ERROR", "FATAL")


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """The state of one histogram series: `counts[i]` values lie at or below `bounds[i]`, the last count is the rest."""

    service: str
    instance: str
    name: str
    unit: str
    attributes: Values
    count: int
    total: float
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def add_points(one: HistogramPoint, other: HistogramPoint) -> HistogramPoint:
    """Two points of one series, or of like series, as one. Without equal bounds the buckets are given up."""
    same = one.bounds == other.bounds and len(one.counts) == len(other.counts)
    lows = [low for low in (one.minimum, other.minimum) if low is not None]
    highs = [high for high in (one.maximum, other.maximum) if high is not None]
    return replace(
        other,
        count=one.count + other.count,
        total=one.total + other.total,
        bounds=one.bounds if same else (),
        counts=tuple(a + b for a, b in zip(one.counts, other.counts, strict=True)) if same else (),
        minimum=min(lows, default=None),
        maximum=max(highs, default=None),
    )
