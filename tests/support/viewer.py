"""Hand-made spans for the viewer's tests: milliseconds instead of nanoseconds, letters instead of ids."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from asgi_trace.viewer.analysis.timeline import Timeline, build
from asgi_trace.viewer.receive.records import Event, Link, LogRecord, SpanRecord, Values
from asgi_trace.viewer.receive.store import Trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
BEGIN = 1_760_000_000_000_000_000
STACKTRACE = (
    "Traceback (most recent call last):\n"
    '  File "/srv/app/stock.py", line 31, in take\n'
    "    run(statement)\n"
    '  File "/usr/lib/python3.11/site-packages/sqlite/thing.py", line 7, in run\n'
    "    raise\n"
    "sqlite3.IntegrityError: CHECK constraint failed: quantity >= 0\n"
)


def ms(value: float) -> int:
    """Milliseconds as nanoseconds."""
    return int(value * 1_000_000)


def make_span(
    name: str,
    start: float = 0.0,
    end: float = 10.0,
    *,
    id: str | None = None,
    parent: str = "",
    kind: str = "INTERNAL",
    service: str = "shop",
    failed: bool = False,
    status: int | None = None,
    exception: str = "",
    stacktrace: str = "",
    trace_id: str = TRACE_ID,
    size: int = 100,
    attributes: Values | None = None,
    links: tuple[Link, ...] = (),
    events: tuple[Event, ...] = (),
) -> SpanRecord:
    """A span from `start` to `end` (milliseconds after `BEGIN`). Its id is its name unless given; `exception` is
    `type: message`, recorded at the end.
    """
    values: Values = dict(attributes or {})
    if status is not None:
        values["http.response.status_code"] = status
    if exception:
        kind_of_error, _, message = exception.partition(": ")
        recorded: Values = {
            "exception.type": kind_of_error,
            "exception.message": message,
            "exception.stacktrace": stacktrace,
        }
        events = (*events, Event("exception", BEGIN + ms(end), recorded))
    return SpanRecord(
        trace_id=trace_id,
        span_id=id or name,
        parent_id=parent,
        name=name,
        kind=kind,
        service=service,
        instance=f"{service}-1",
        start=BEGIN + ms(start),
        end=BEGIN + ms(end),
        status="ERROR" if failed else "UNSET",
        attributes=values,
        events=events,
        links=links,
        size=size,
    )


def make_log(body: str, at: float = 1.0, **fields: Any) -> LogRecord:
    """A log line `at` milliseconds after `BEGIN`."""
    return LogRecord(
        **{"time": BEGIN + ms(at), "severity": "INFO", "service": "shop", "trace_id": TRACE_ID, "body": body, **fields}
    )


def make_trace(*spans: SpanRecord, logs: tuple[LogRecord, ...] = ()) -> Trace:
    """A trace of these spans."""
    trace_id = spans[0].trace_id if spans else TRACE_ID
    return Trace(trace_id, {span.span_id: span for span in spans}, list(logs))


def make_timeline(*spans: SpanRecord, logs: tuple[LogRecord, ...] = ()) -> Timeline:
    """The timeline of these spans."""
    return build(make_trace(*spans, logs=logs))


SPANS = st.lists(
    st.builds(
        make_span,
        st.sampled_from("abcdefgh"),
        st.floats(-100, 100),
        st.floats(100, 200),
        parent=st.sampled_from(["", *"abcdefghz"]),
        kind=st.sampled_from(["SERVER", "CLIENT", "INTERNAL"]),
        service=st.sampled_from(["x", "y"]),
        failed=st.booleans(),
        exception=st.sampled_from(["", "E: 1", "E: 2"]),
    ),
    min_size=1,
    max_size=8,
)
"""Up to eight spans with any parents: missing ones, circles, strays, two services, failures."""


def failing_checkout() -> Timeline:
    """A checkout over three services that fails in the last one, in a database call."""
    error = "sqlite3.IntegrityError: CHECK constraint failed: quantity >= 0"
    return make_timeline(
        make_span("POST /checkout", 0, 100, id="a", kind="SERVER", failed=True, status=502),
        make_span("dependency customer", 1, 4, id="b", parent="a"),
        make_span("POST /orders", 5, 98, id="c", parent="a", kind="CLIENT", failed=True, status=502),
        make_span("POST /orders", 7, 96, id="d", parent="c", kind="SERVER", service="orders", failed=True, status=502),
        make_span(
            "reserve", 8, 94, id="e", parent="d", service="orders", failed=True, exception="HTTPStatusError: 500"
        ),
        make_span("POST /stock", 9, 92, id="f", parent="e", kind="CLIENT", service="orders", failed=True, status=500),
        make_span(
            "POST /stock",
            11,
            90,
            id="g",
            parent="f",
            kind="SERVER",
            service="inventory",
            failed=True,
            status=500,
            exception=error,
            stacktrace=STACKTRACE,
        ),
        make_span(
            "UPDATE stock",
            20,
            88,
            id="h",
            parent="g",
            kind="CLIENT",
            service="inventory",
            failed=True,
            exception=error,
            stacktrace=STACKTRACE,
        ),
        logs=(
            make_log("checkout of ada", 0.5, span_id="a"),
            make_log("taking 3 umbrellas", 15, service="inventory", span_id="g"),
            make_log("no order", 97, severity="ERROR", span_id="a"),
        ),
    )


def otlp_json(name: str, trace_id: str = TRACE_ID, span_id: str = "00f067aa0ba902b7", **fields: Any) -> dict[str, Any]:
    """An export request of one SERVER span as OTLP/JSON. `fields` are those of the span."""
    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(BEGIN),
        "endTimeUnixNano": str(BEGIN + ms(10)),
        **fields,
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "s"}, "spans": [span]}]}]}
