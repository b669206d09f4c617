"""`traced`: the decorator, what it takes, and which wrapper it chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

from opentelemetry.trace import TracerProvider

from .._options.checks import plain_function, provider
from .._types import AttributeValue
from .functions import coroutine_function, function
from .generators import async_generator_function, generator_function
from .operation import Operation
from .target import Kind, in_place_of, kind_of

__all__ = ["traced"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Method = TypeVar("_Method", bound="classmethod[Any, ..., Any]")
_Values = Mapping[str, AttributeValue]

_WRAPPERS = {
    Kind.FUNCTION: function,
    Kind.COROUTINE: coroutine_function,
    Kind.GENERATOR: generator_function,
    Kind.ASYNC_GENERATOR: async_generator_function,
}


class _Rest(Protocol):
    def __call__(self, **arguments: Any) -> _Values: ...


class _OneAndRest(Protocol):
    def __call__(self, first: Any, /, **rest: Any) -> _Values: ...


class _TwoAndRest(Protocol):
    def __call__(self, first: Any, second: Any, /, **rest: Any) -> _Values: ...


class _ThreeAndRest(Protocol):
    def __call__(self, first: Any, second: Any, third: Any, /, **rest: Any) -> _Values: ...


# What a lambda may look like whose parameters get a type: pyright gives them one only where a shape is the same, and
# complains of unknown types otherwise, also where `Callable[..., _Values]` is one of several. So that has an overload
# of its own, for any other function. To mypy `_Rest` takes any arguments, so it finds that overload superfluous.
_Shapes = (
    Callable[[Any], _Values]
    | Callable[[Any, Any], _Values]
    | Callable[[Any, Any, Any], _Values]
    | _Rest
    | _OneAndRest
    | _TwoAndRest
    | _ThreeAndRest
)


class _Decorator(Protocol):
    """What `traced("name")` is: it gives back what it decorates, unchanged to a type checker."""

    @overload
    def __call__(self, function: _Method, /) -> _Method: ...
    @overload
    def __call__(self, function: _Function, /) -> _Function: ...


# The types: what is decorated comes back as what it was. A `ParamSpec` would say the same of a plain function, and lose
# overloads, type variables and the parameters' names of a generic one.
@overload
def traced(function: _Method, /) -> _Method: ...
@overload
def traced(
    function: _Function,
    /,
    *,
    attributes: _Values | _Shapes | None = None,
    tracer_provider: TracerProvider | None = None,
) -> _Function: ...
@overload
def traced(  # type: ignore[overload-cannot-match]
    function: _Function, /, *, attributes: Callable[..., _Values], tracer_provider: TracerProvider | None = None
) -> _Function: ...
@overload
def traced(
    name: str | None = None,
    *,
    attributes: _Values | _Shapes | None = None,
    tracer_provider: TracerProvider | None = None,
) -> _Decorator: ...
@overload
def traced(  # type: ignore[overload-cannot-match]
    name: str | None = None, *, attributes: Callable[..., _Values], tracer_provider: TracerProvider | None = None
) -> _Decorator: ...
def traced(name: Any = None, *, attributes: Any = None, tracer_provider: TracerProvider | None = None) -> Any:
    """Record each call of a function, a coroutine function, a generator or an async generator as one INTERNAL span.

        @traced
        def price(order: Order) -> int: ...

        @traced("reserve stock", attributes=lambda sku, **_: {"shop.sku": sku})
        async def reserve(sku: str, count: int = 1) -> None: ...

        async def read_order(session: Annotated[Session, Depends(traced(session))]): ...

    What is decorated keeps its kind, signature, annotations and documentation, for `inspect`, for type checkers and for
    frameworks that inject dependencies. It works in and outside of requests. Methods, classmethods, staticmethods,
    partials and objects with `__call__` can be decorated too. A class as a dependency is `Depends(traced(Session))`;
    above a class definition `@traced` would make a function of the class, so do not write it there.

    The span is current where the decorated code runs. That of a generator lasts from the first step to the end; in an
    async generator that is entered as a context manager or as a `yield` dependency, it is also current for the code
    in between. An exception is recorded on the innermost `traced` span that it leaves; the others of the same trace get
    the status and `error.type`. StopIteration, GeneratorExit and a cancellation are no errors.

    Args:
        name: the span's name. None is the `__qualname__` without `<locals>.`. The attribute `code.function.name` has
            the module as well.
        attributes: a mapping, or a function that gets the arguments of the call by name, defaults and `self` included,
            and returns one. It is called for recorded spans only; what it raises is logged once and changes nothing.
        tracer_provider: None is OpenTelemetry's global one, looked up at each call.

    Raises:
        TypeError, ValueError: an argument has a value that makes no sense; the message says what to write instead.
    """
    provider("tracer_provider", tracer_provider, "get_tracer")
    if callable(attributes):
        plain_function("attributes", attributes)
    elif attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError(f"attributes: {attributes!r} is not a mapping; write a dict, or a function that returns one")
    if name == "":
        raise ValueError("name: '' is empty; write the span's name, or leave it out")
    if name is None or isinstance(name, str):
        return lambda target: _traced(target, name, attributes, tracer_provider)
    return _traced(name, None, attributes, tracer_provider)


def _traced(target: Any, name: str | None, attributes: Any, tracer_provider: TracerProvider | None) -> Any:
    if isinstance(target, (classmethod, staticmethod)):
        return type(target)(_traced(target.__func__, name, attributes, tracer_provider))
    if not callable(target):
        advice = "below @property" if isinstance(target, property) else "on a function, or traced('name')"
        raise TypeError(f"traced: {target!r} cannot be called; write @traced {advice}")
    wrap = _WRAPPERS[kind_of(target)]
    return in_place_of(target, wrap(target, Operation(target, name, attributes, tracer_provider)))
