"""Exceptions, recorded once: as a span event, as a log record, or both, by OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN.

`logs` and `logs/dup` are the two words of the convention's migration; unset (or anything else) means span events.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from opentelemetry._logs import SeverityNumber, get_logger
from opentelemetry.trace import Span, Status, StatusCode

from .._semconv.http import error_type, is_group, sole_member, text
from .._semconv.names import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, SCHEMA_URL
from .._version import VERSION
from .tracers import INSTRUMENTATION_SCOPE

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.context import Context

    from .._types import Attributes

_MOST_LINKS = 32  # of causes, contexts and groups that one question follows

ERROR = Status(StatusCode.ERROR)


def description(exc: BaseException) -> str | None:
    """The exception's message, of a group with one member that member's: the description of a span's status."""
    try:
        return text(str(sole_member(exc))) or None
    except Exception:  # its own __str__ failed
        return None


def _readable(exc: BaseException) -> Attributes | None:
    """What to record in place of the SDK's own text, where an exporter would drop that: it holds lone surrogates."""
    try:
        if all(text(words) == words for words in map(str, chain(exc))):
            return None
        trace = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        return {EXCEPTION_MESSAGE: text(str(exc)), EXCEPTION_STACKTRACE: text(trace)}
    except Exception:  # some __str__ failed, which is what the SDK shows then
        return None


class ExceptionRecorder:
    """Records an exception where the environment says, under the event name and severity of one kind of operation."""

    __slots__ = ("_logger", "_on_span")

    def __init__(self) -> None:
        words = {word.strip() for word in os.environ.get("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "").split(",")}
        as_logs = not words.isdisjoint({"logs", "logs/dup"})
        self._on_span = not as_logs or "logs/dup" in words
        self._logger: Logger | None = (
            get_logger(INSTRUMENTATION_SCOPE, VERSION, schema_url=SCHEMA_URL) if as_logs else None
        )

    def record(
        self,
        span: Span,
        context: Context,
        exc: BaseException,
        event_name: str,
        severity: SeverityNumber = SeverityNumber.ERROR,
    ) -> None:
        """Record `exc` for the operation of `span`, which is current in `context`."""
        if self._on_span:
            span.record_exception(exc, _readable(exc))
        if self._logger is not None:
            self._logger.emit(
                context=context,
                event_name=event_name,
                severity_number=severity,
                severity_text=severity.name,
                body=error_type(exc),
                exception=exc,
            )


def chain(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what is behind it (causes, contexts, parts of a group), the nearest first, and not without end."""
    queue, seen = deque([exc]), 0
    while queue and seen < _MOST_LINKS:
        link = queue.popleft()
        seen += 1
        yield link
        queue.extend(behind for behind in (link.__cause__, link.__context__) if behind is not None)
        if is_group(link):
            queue.extend(link.exceptions)  # type: ignore[attr-defined]
