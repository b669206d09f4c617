"""Which exception belongs to which span, and where in the code it was raised.

An exception on its way up is recorded by every span that it passes; only the first of them, the deepest, is where it
happened. Exceptions recorded as log records count like those recorded as span events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..receive import http
from ..receive.records import LogRecord, SpanRecord, Values
from .stack_traces import where
from .tree import Placed


@dataclass(frozen=True)
class Failure:
    """An exception on a span: its class, its message, the frame that raised it, and the traceback's text.

    `first` tells the span where it happened from those that it only passed through on its way up.
    """

    type: str
    message: str
    where: str
    stacktrace: str
    first: bool = True

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def failures_of(places: Sequence[Placed], logs: Iterable[LogRecord]) -> list[Failure | None]:
    """The exception of each span, or None. It is not the `first` where a span below has it too."""
    logged: dict[str, Values] = {}
    for log in logs:
        if log.span_id and "exception.type" in log.attributes:
            logged[log.span_id] = log.attributes
    found: list[Failure | None] = [None] * len(places)
    below: list[set[tuple[str, str, str]]] = [set() for _ in places]
    for index in range(len(places) - 1, -1, -1):
        place = places[index]
        failure = _failure(place.span, logged)
        if failure is None:
            passed = below[index]
        else:
            key = (place.span.service, failure.type, failure.message)
            passed = {key}
            if key in below[index]:
                failure = Failure(failure.type, failure.message, failure.where, failure.stacktrace, first=False)
        found[index] = failure
        if place.parent >= 0:
            below[place.parent] |= passed
        below[index] = set()
    return found


def _failure(span: SpanRecord, logged: dict[str, Values]) -> Failure | None:
    for event in reversed(span.events):
        if event.name == "exception":
            return _failure_of(event.attributes)
    attributes = logged.get(span.span_id)
    if attributes is None or not http.failed(span):
        return None
    return _failure_of(attributes)


def _failure_of(attributes: Values) -> Failure:
    stacktrace = str(attributes.get("exception.stacktrace") or "")
    return Failure(
        type=str(attributes.get("exception.type") or "exception"),
        message=str(attributes.get("exception.message") or ""),
        where=where(stacktrace),
        stacktrace=stacktrace,
    )
