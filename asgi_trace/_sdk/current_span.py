"""`start_as_current_span` as one object, in place of a generator inside of another one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from opentelemetry.context import Context, detach
from opentelemetry.trace import Span, Status, StatusCode

from .._otel.api import SPAN_KEY
from .._otel.context import attach, get_current, restore

_Function = TypeVar("_Function", bound=Callable[..., Any])


class CurrentSpan:
    """Starts a span and makes it the current one for a block or, as a decorator, for every call of a function.

    What `use_span` of the API does, step by step: an exception is recorded on a span that is still recording, if the
    options of its start say so, and a span that was started with `end_on_exit` ends in any case.
    """

    __slots__ = ("_arguments", "_end_on_exit", "_span", "_start_span", "_token")

    _span: Span

    def __init__(self, start_span: Callable[..., Span], arguments: tuple[Any, ...], end_on_exit: bool) -> None:
        self._start_span = start_span
        self._arguments = arguments
        self._end_on_exit = end_on_exit

    def __enter__(self) -> Span:
        self._span = span = self._start_span(*self._arguments)
        self._token = attach(Context({**get_current(), SPAN_KEY: span}))
        return span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            restore(self._token)
        except ValueError:  # left in another context than it was entered in, as by an abandoned generator
            detach(self._token)  # the API says so in the log
        try:
            # Not what is no Exception, like GeneratorExit: that is no error.
            if exc is not None and isinstance(exc, Exception) and self._span.is_recording():
                self._failed(exc)
        finally:
            if self._end_on_exit:
                self._span.end()

    def _failed(self, exc: Exception) -> None:
        record_exception, set_status = self._arguments[-2:]
        if record_exception:
            self._span.record_exception(exc)
        if set_status:
            self._span.set_status(Status(StatusCode.ERROR, f"{type(exc).__name__}: {exc}"))

    def __call__(self, function: _Function) -> _Function:
        """Decorate a function or a coroutine function: each call has a span of its own."""
        again = functools.partial(CurrentSpan, self._start_span, self._arguments, self._end_on_exit)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with again():
                    return await function(*args, **kwargs)

            return coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with again():
                return function(*args, **kwargs)

        return call  # type: ignore[return-value]
