"""What `traced` gives back: the same callable for `inspect`, for people and for frameworks, and what it refuses."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any, get_type_hints

import pytest
from opentelemetry.sdk.trace import TracerProvider

from asgi_trace import traced
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of

HERE = __name__
Marked = Annotated[int, "marked"]


def plain(order_id: int, *rest: str, count: Marked = 1, **more: bytes) -> str:
    """What it does."""
    return f"{order_id} {rest} {count} {more}"


async def coroutine(order_id: int, /, count: int = 1) -> int:
    """Awaits."""
    await asyncio.sleep(0)
    return order_id + count


def generator(order_id: int = 7) -> Iterator[int]:
    """Yields."""
    yield order_id


async def async_generator(order_id: int = 7) -> AsyncIterator[int]:
    """Yields, too."""
    yield order_id


plain.weight = 7  # type: ignore[attr-defined]


class Shop:
    """A class whose methods are decorated."""

    def __init__(self, name: str = "corner") -> None:
        self.name = name

    @traced
    def method(self, order_id: int) -> str:
        return f"{self.name} {order_id}"

    @traced
    @classmethod
    def made(cls, name: str) -> Shop:
        return cls(name)

    @classmethod
    @traced
    def made_inside(cls, name: str) -> Shop:
        return cls(name)

    @traced
    @staticmethod
    def price(count: int) -> int:
        return 2 * count

    @staticmethod
    @traced
    def price_inside(count: int) -> int:
        return 2 * count

    @property
    @traced
    def label(self) -> str:
        return f"shop {self.name}"


class Checker:
    """An object that is called."""

    def __call__(self, count: int = 1) -> int:
        return count


class AsyncChecker:
    """An object whose call is awaited."""

    async def __call__(self, count: int = 1) -> int:
        return count


class Pages:
    """An object whose call is iterated."""

    def __call__(self, count: int = 1) -> Iterator[int]:
        yield count


class AsyncPages:
    """An object whose call is iterated asynchronously."""

    async def __call__(self, count: int = 1) -> AsyncIterator[int]:
        yield count


CALLABLES: dict[str, Callable[..., Any]] = {
    "function": plain,
    "coroutine function": coroutine,
    "generator function": generator,
    "async generator function": async_generator,
    "bound method": Shop().method,
    "bound classmethod": Shop.made,
    "lambda": lambda order_id, *, count=1: order_id,
    "partial": functools.partial(plain, 7, count=2),
    "partial of a coroutine function": functools.partial(coroutine, 7),
    "partial of a generator function": functools.partial(generator, order_id=8),
    "partial of an async generator function": functools.partial(async_generator, order_id=8),
    "object": Checker(),
    "object with an async call": AsyncChecker(),
    "object with a generator call": Pages(),
    "object with an async generator call": AsyncPages(),
    "class": Shop,
    "builtin": len,
    "cached": functools.lru_cache(plain),
}
QUESTIONS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def answers(function: Any) -> list[bool]:
    """What the questions of `inspect` say of a callable, or of the `__call__` of an object."""
    inner = function.func if isinstance(function, functools.partial) else function
    if not inspect.isroutine(inner) and not inspect.isclass(inner):
        function = type(inner).__call__
    return [question(function) for question in QUESTIONS]


@pytest.mark.parametrize("kind", CALLABLES)
def test_a_decorated_callable_answers_as_the_original(kind: str) -> None:
    """Signature, kind, name, module, documentation and what is behind it are the original's."""
    original = CALLABLES[kind]
    decorated: Any = traced(original)
    assert isinstance(decorated, types.FunctionType)
    assert [question(decorated) for question in QUESTIONS] == answers(original)
    if sys.version_info < (3, 14):  # deprecated there
        assert asyncio.iscoroutinefunction(decorated) == answers(original)[0]
    assert inspect.signature(decorated) == inspect.signature(original)
    assert vars(decorated)["__wrapped__"] is original
    assert inspect.unwrap(decorated) is inspect.unwrap(original)
    named: Any = original.func if isinstance(original, functools.partial) else original
    named = named if hasattr(named, "__qualname__") else type(named)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(decorated, name) == getattr(named, name)


@pytest.mark.parametrize("original", [plain, coroutine, generator, async_generator])
def test_annotations_of_a_decorated_function_are_the_originals(original: Callable[..., Any]) -> None:
    """Postponed annotations can be evaluated in the globals of the original, also where nothing else is looked at."""
    decorated: Any = traced(original)
    assert get_type_hints(decorated, include_extras=True) == get_type_hints(original, include_extras=True)
    assert decorated.__annotations__ == original.__annotations__
    assert decorated.__globals__ is globals()
    assert [eval(hint, decorated.__globals__) for hint in decorated.__annotations__.values()]


def test_attributes_of_a_function_are_kept() -> None:
    """What a framework or a mark has put on a function is on the decorated one; what an object holds is not."""
    assert traced(plain).weight == 7  # type: ignore[attr-defined]
    assert not hasattr(traced(Shop("corner").method), "name")
    assert vars(traced(Checker())).keys() == {"__wrapped__"}


def test_a_wrapper_uses_no_global_name() -> None:
    """Its globals are the user's, so everything that is not built in comes from its closure."""
    import builtins

    for original in (plain, coroutine, generator, async_generator):
        decorated: Any = traced(original)
        loaded = {
            instruction.argval
            for instruction in __import__("dis").get_instructions(decorated)
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
        assert loaded <= set(vars(builtins))


@traced
def module_level(count: int) -> int:
    return count


def test_a_decorated_function_can_be_pickled() -> None:
    """It is found under its name, as by a process pool."""
    assert pickle.loads(pickle.dumps(module_level)) is module_level


NAMES: dict[str, tuple[str, str]] = {
    "function": ("plain", f"{HERE}.plain"),
    "coroutine function": ("coroutine", f"{HERE}.coroutine"),
    "bound method": ("Shop.method", f"{HERE}.Shop.method"),
    "bound classmethod": ("Shop.made", f"{HERE}.Shop.made"),
    "lambda": ("<lambda>", f"{HERE}.<lambda>"),
    "partial": ("plain", f"{HERE}.plain"),
    "object": ("Checker", f"{HERE}.Checker"),
    "class": ("Shop", f"{HERE}.Shop"),
    "builtin": ("len", "builtins.len"),
    "cached": ("plain", f"{HERE}.plain"),
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "bound classmethod": ("x",),
    "partial": (),
    "class": ("x",),
    "builtin": ("abc",),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_span_is_named_after_the_callable(kind: str, spans: CapturedSpans) -> None:
    """The name is the qualified one, and `code.function.name` has the module in front of it."""
    original = CALLABLES[kind]
    result: Any = traced(original)(*ARGUMENTS.get(kind, (7,)))
    if inspect.isawaitable(result):

        async def wait() -> None:
            await result

        asyncio.run(wait())
    span = spans[-1]
    assert (span.name, attributes_of(span)) == (NAMES[kind][0], {"code.function.name": NAMES[kind][1]})


def test_the_name_of_a_local_function_says_where_it_is(spans: CapturedSpans) -> None:
    """`<locals>` is left out."""

    @traced
    def inner() -> None:
        pass

    inner()
    name = "test_the_name_of_a_local_function_says_where_it_is.inner"
    assert spans[0].name == name
    assert attributes_of(spans[0])["code.function.name"] == f"{HERE}.{name}"


def test_methods_are_bound(spans: CapturedSpans) -> None:
    """Methods, classmethods, staticmethods and properties get what they get without it, in either order."""
    shop = Shop()
    assert shop.method(7) == Shop.method(shop, 7) == "corner 7"
    sub: Any = type("Sub", (Shop,), {})
    for cls in (Shop, sub):
        assert type(cls.made("x")) is type(cls.made_inside("x")) is cls
        assert cls.price(2) == cls().price(2) == cls.price_inside(2) == 4
    assert shop.label == "shop corner"
    names = {span.name for span in spans}
    assert names == {f"Shop.{name}" for name in ("method", "made", "made_inside", "price", "price_inside", "label")}
    assert isinstance(inspect.getattr_static(Shop, "made"), classmethod)
    assert isinstance(inspect.getattr_static(Shop, "price"), staticmethod)


WRITTEN: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "bare": lambda function: traced(function),
    "called": lambda function: traced()(function),
    "none": lambda function: traced(None)(function),
    "name": lambda function: traced("reserve stock")(function),
    "name=": lambda function: traced(name="reserve stock")(function),
    "attributes=": lambda function: traced(attributes={"shop.id": 7})(function),
    "both": lambda function: traced("reserve stock", attributes={"shop.id": 7})(function),
    "at once": lambda function: traced(function, attributes={"shop.id": 7}),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_every_way_to_write_it_works(written: str, spans: CapturedSpans) -> None:
    """With and without parentheses, with a name, with attributes."""
    assert WRITTEN[written](plain)(7) == plain(7)
    named = written in ("name", "name=", "both")
    extra = {"shop.id": 7} if written in ("attributes=", "both", "at once") else {}
    assert spans[0].name == ("reserve stock" if named else "plain")
    assert attributes_of(spans[0]) == {"code.function.name": f"{HERE}.plain", **extra}


def test_a_provider_of_its_own_counts(spans: CapturedSpans) -> None:
    """`tracer_provider` is used instead of the default one."""
    own = TracerProvider(shutdown_on_exit=False)
    assert traced(tracer_provider=own)(plain)(7) == plain(7)
    assert len(spans) == 0
    assert traced(tracer_provider=spans.tracer_provider)(plain)(7) == plain(7)
    assert [span.name for span in spans] == ["plain"]
    scope = spans[0].instrumentation_scope
    assert scope is not None
    assert scope.name == "asgi_trace"


async def asking(**arguments: Any) -> Mapping[str, Any]:
    return {}


untyped: Any = traced


@pytest.mark.parametrize(
    ("wrong", "error", "advice"),
    [
        (lambda: untyped(7), TypeError, "7 cannot be called; write @traced on a function, or traced('name')"),
        (lambda: untyped()(7), TypeError, "write @traced on a function"),
        (lambda: untyped(property(plain)), TypeError, "write @traced below @property"),
        (lambda: untyped(""), ValueError, "name: '' is empty; write the span's name, or leave it out"),
        (lambda: untyped(attributes=7), TypeError, "attributes: 7 is not a mapping; write a dict, or a function"),
        (lambda: untyped(attributes=[("a", 1)]), TypeError, "is not a mapping; write a dict"),
        (lambda: untyped(attributes=asking), TypeError, "is a coroutine function; write a plain `def`"),
        (lambda: untyped(tracer_provider=7), TypeError, "tracer_provider: 7 has no get_tracer"),
    ],
)
def test_a_wrong_argument_says_what_to_write(wrong: Any, error: type[Exception], advice: str) -> None:
    """It raises where it is written, not where it is called."""
    with pytest.raises(error) as caught:
        wrong()
    assert advice in str(caught.value)
