"""Functions and coroutine functions with a span around each call.

A wrapper gets the globals of what it wraps (see `target.in_place_of`), so everything that it uses is in its closure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._otel import context as otel
from .operation import Operation
from .operation import leave as _leave


def function(target: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    """A function around a function."""
    tracer_now, start, end, failed = operation.tracer, operation.start, operation.end, operation.failed
    attach, leave = otel.attach, _leave

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        tracer = tracer_now()
        context = None if tracer is None else start(tracer, args, kwargs)
        if context is None:
            return target(*args, **kwargs)
        token = attach(context)
        try:
            result = target(*args, **kwargs)
        except BaseException as exc:
            leave(token)
            failed(context, exc)
            raise
        leave(token)
        end(context)
        return result

    return wrapper


def coroutine_function(target: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    """A coroutine function around a coroutine function."""
    tracer_now, start, end, failed = operation.tracer, operation.start, operation.end, operation.failed
    attach, leave = otel.attach, _leave

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        tracer = tracer_now()
        context = None if tracer is None else start(tracer, args, kwargs)
        if context is None:
            return await target(*args, **kwargs)
        token = attach(context)
        try:
            result = await target(*args, **kwargs)
        except BaseException as exc:
            leave(token)
            failed(context, exc)
            raise
        leave(token)
        end(context)
        return result

    return wrapper
