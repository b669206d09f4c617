"""Exceptions, recorded once: as a span event, as a log record, or both, by OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN.

`logs` and `logs/dup` are the two words of the convention's migration; unset (or anything else) means span events. Where
logs are asked for and no LoggerProvider is set, an exception is a span event all the same.

What is recorded has a size of its own, and no secrets: texts are cut, and URLs in them are masked.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from opentelemetry._logs import SeverityNumber, get_logger
from opentelemetry.trace import Span, Status, StatusCode

from .._guard import Guard
from .._options.redact import Redaction
from .._options.text import MOST_DESCRIPTION, MOST_STACK_TRACE, recordable, without_middle
from .._semconv.http import error_type, is_group, sole_member
from .._semconv.names import EXCEPTION_ESCAPED, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE, SCHEMA_URL
from .._version import VERSION
from .api import records_logs
from .tracers import INSTRUMENTATION_SCOPE

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.context import Context

    from .._types import Attributes

MOST_LINKS = 32  # of causes, contexts and groups that one question follows
_UNPRINTABLE = "<exception str() failed>"  # as Python's own traceback says it

ERROR = Status(StatusCode.ERROR)


class ExceptionRecorder:
    """Records an exception where the environment says, under the event name and severity of one kind of operation.

    Nothing here raises because of the exception: one whose `__str__` fails is recorded with its class and its stack.
    """

    __slots__ = ("_guard", "_logger", "_on_span", "_redaction")

    def __init__(self, redaction: Redaction) -> None:
        words = {word.strip() for word in os.environ.get("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "").split(",")}
        as_logs = not words.isdisjoint({"logs", "logs/dup"})
        self._on_span = not as_logs or "logs/dup" in words
        self._logger: Logger | None = (
            get_logger(INSTRUMENTATION_SCOPE, VERSION, schema_url=SCHEMA_URL) if as_logs else None
        )
        self._redaction = redaction
        self._guard = Guard()

    def description(self, exc: BaseException) -> str | None:
        """The exception's message, of a group with one member that member's: the description of a span's status."""
        try:
            message = str(sole_member(exc))
        except Exception:
            return None
        return recordable(self._redaction.text(message), MOST_DESCRIPTION) or None

    def record(
        self,
        span: Span,
        context: Context,
        exc: BaseException,
        event_name: str,
        severity: SeverityNumber = SeverityNumber.ERROR,
    ) -> None:
        """Record `exc` for the operation of `span`, which is current in `context`."""
        attributes = exception_attributes(exc, self._redaction)
        as_log = self._logger is not None and records_logs(self._logger)
        if not (as_log or self._on_span):
            self._guard.warn(
                "no LoggerProvider",
                "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN asks for exceptions as logs, but no LoggerProvider is set: they"
                " are recorded as span events. Set one, for example with configure(logs=True).",
            )
        if self._on_span or not as_log:
            _add_event(span, exc, attributes)
        if as_log and self._logger is not None:
            self._logger.emit(
                context=context,
                event_name=event_name,
                severity_number=severity,
                severity_text=severity.name,
                body=error_type(exc),
                attributes=attributes,
            )


def exception_attributes(exc: BaseException, redaction: Redaction) -> Attributes:
    """`exception.*` as the SDK writes them, but masked, cut, and without text that no exporter can encode."""
    cls = type(exc)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(exc)
    except Exception:
        message = _UNPRINTABLE
    try:
        trace = "".join(traceback.format_exception(cls, exc, exc.__traceback__))
    except Exception:  # a class with properties that fail
        trace = "".join(traceback.format_tb(exc.__traceback__)) + f"{name}: {message}\n"
    return {
        EXCEPTION_TYPE: name,
        EXCEPTION_MESSAGE: recordable(redaction.text(message)),
        EXCEPTION_STACKTRACE: without_middle(redaction.text(trace), MOST_STACK_TRACE),
    }


def _add_event(span: Span, exc: BaseException, attributes: Attributes) -> None:
    """Record the exception on a span: `record_exception`, or what the SDK's own comes to.

    The SDK would write the stack trace a second time, only for ours to replace it, and would fail where `__str__` does.
    """
    sdk = sys.modules.get("opentelemetry.sdk.trace")
    if sdk is not None and type(span).record_exception is sdk.Span.record_exception:
        span.add_event("exception", {**attributes, EXCEPTION_ESCAPED: "False"})
    else:
        span.record_exception(exc, attributes)


def chain(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what is behind it (causes, contexts, parts of a group), the nearest first, and not without end."""
    queue, seen = deque([exc]), 0
    while queue and seen < MOST_LINKS:
        link = queue.popleft()
        seen += 1
        yield link
        queue.extend(behind for behind in (link.__cause__, link.__context__) if behind is not None)
        if is_group(link):
            queue.extend(link.exceptions)  # type: ignore[attr-defined]
