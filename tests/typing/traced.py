"""How `traced` looks to a type checker: what is decorated keeps its type. mypy and pyright read this file."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Annotated, Any, Generic, TypeVar, overload

from fastapi import Depends, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from typing_extensions import assert_type

from asgi_trace import traced

T = TypeVar("T")


@traced
def plain(order_id: int, *skus: str, count: int = 1) -> str:
    return f"{order_id} {skus} {count}"


@traced("reserve stock", attributes={"shop.id": 7}, tracer_provider=TracerProvider())
async def reserve(sku: str, /, count: int = 1) -> int:
    return count


@traced()
def numbers(count: int) -> Iterator[int]:
    yield count


@traced(name=None)
async def async_numbers(count: int) -> AsyncIterator[int]:
    yield count


@contextmanager
@traced
def session(name: str) -> Generator[str, None, None]:
    yield name


@asynccontextmanager
@traced("session")
async def async_session(name: str) -> AsyncGenerator[str, None]:
    yield name


@traced
def first(items: list[T]) -> T:
    return items[0]


@overload
def price(order: int) -> int: ...
@overload
def price(order: str) -> str: ...
@traced
def price(order: int | str) -> int | str:
    return order


decorated_overload = traced(price)


def describe(**arguments: Any) -> Mapping[str, str | int]:
    return {"shop.arguments": len(arguments)}


# What a function of the arguments may be: no parameter of a lambda is of an unknown type.
for_lambdas = (
    traced(attributes=lambda **arguments: {"shop.arguments": len(arguments)}),
    traced(attributes=lambda sku: {"shop.sku": sku}),
    traced(attributes=lambda sku, **_: {"shop.sku": sku}),
    traced(attributes=lambda sku, count: {"shop.sku": sku, "shop.count": count}),
    traced(attributes=lambda self, sku, **_: {"shop.sku": sku, "shop.length": len(sku)}),
    traced(attributes=lambda self, sku, count: {"shop.sku": sku, "shop.count": count}),
    traced(attributes=lambda self, sku, count, **_: {"shop.sku": sku, "shop.count": count}),
    traced(plain, attributes=lambda order_id, **_: {"shop.order": order_id})(7),
)


def of_keywords(*, sku: str, count: int, note: str = "") -> dict[str, str | int]:
    return {"shop.sku": sku, "shop.count": count, "shop.note": note}


traced("reserve", attributes=of_keywords)


class Basket(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item

    @traced(attributes=describe)
    def add(self, count: int = 1) -> T:
        return self.item

    @traced
    @classmethod
    def made(cls, name: str) -> str:
        return name

    @classmethod
    @traced
    def made_inside(cls, name: str) -> str:
        return name

    @traced
    @staticmethod
    def weight(count: int) -> float:
        return count / 2

    @property
    @traced
    def label(self) -> str:
        return ""


class Checker:
    def __call__(self, tenant: str) -> bool:
        return bool(tenant)


check = traced(Checker())
two_of = traced(partial(plain, count=2))

app = FastAPI()


@app.get("/orders/{order_id}")
@traced
async def read_order(order_id: int, session: Annotated[str, Depends(traced(async_numbers))]) -> dict[str, int]:
    return {"order": order_id}


async def use() -> None:
    assert_type(plain(7, "kettle", count=2), str)
    assert_type(await reserve("kettle", count=2), int)
    for number in numbers(2):
        assert_type(number, int)
    async for number in async_numbers(2):
        assert_type(number, int)
    with session("a") as name:
        assert_type(name, str)
    async with async_session("a") as name:
        assert_type(name, str)
    assert_type(first([1]), int)
    assert_type(first(["a"]), str)
    assert_type(price(1), int)
    assert_type(decorated_overload("a"), str)
    assert_type(Basket("kettle").add(2), str)
    assert_type(Basket.made("a"), str)
    assert_type(Basket.made_inside("a"), str)
    assert_type(Basket.weight(2), float)
    assert_type(Basket(1).label, str)
    assert_type(check("a"), bool)
    assert_type(two_of(7), str)
    assert_type((await read_order(7, "session"))["order"], int)


def misuse() -> None:
    """A type checker refuses each of these, and complains about an ignored error that is none."""
    plain("7")  # type: ignore[arg-type]
    plain(7, amount=2)  # type: ignore[call-arg]
    first(7)  # type: ignore[arg-type]
    traced(7)  # type: ignore[call-overload]
    traced("name", attributes=7)  # type: ignore[call-overload]
    traced("name", attributes=lambda sku: 7)  # type: ignore[arg-type]
    Basket("kettle").add("2")  # type: ignore[arg-type]
