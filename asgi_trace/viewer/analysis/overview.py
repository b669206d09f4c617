"""A trace in one row of a list: the same for the page, the API and the search."""

from __future__ import annotations

from dataclasses import dataclass

from ..receive import http
from .cause import explain
from .timeline import Timeline


@dataclass(frozen=True, slots=True)
class Overview:
    """What a list says about a trace. `time` is the start of the entry span in Unix nanoseconds, 0 when unknown;
    `duration` is the entry span's own, in nanoseconds, None when unknown; `failed` is None when it cannot be known.

    `cause` says why it failed; `remark` tells of a failure that the request survived.
    """

    trace_id: str
    name: str
    time: int
    service: str
    method: str | None
    path: str | None
    route: str | None
    status: int | None
    failed: bool | None
    duration: int | None
    span_count: int
    services: tuple[str, ...]
    cause: str | None
    remark: str | None


def overview(timeline: Timeline) -> Overview | None:
    """The row of a trace; None for one of log lines alone."""
    if not timeline.rows:
        return None
    row = timeline.rows[timeline.entry]
    request = http.read(row.span)
    failed = timeline.failed
    cause = explain(timeline)
    sentence = None if cause is None else cause.sentence
    return Overview(
        trace_id=timeline.trace_id,
        name=row.span.name,
        time=row.span.start,
        service=row.span.service,
        method=request.method,
        path=request.path,
        route=request.route,
        status=request.status,
        failed=failed,
        duration=row.span.duration,
        span_count=len(timeline.rows),
        services=timeline.services,
        cause=None if failed is False else sentence,
        remark=sentence if failed is False else None,
    )
