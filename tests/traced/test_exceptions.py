"""An exception on its way out: which span records it, which ones get status and `error.type`."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from asgi_trace import TraceMiddleware, traced
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of, drive, http_scope
from ..support.subprocess import check


class Verdict(NamedTuple):
    """What a span says of an exception."""

    status: str
    error_type: object
    recorded: list[Any]
    cancelled: object = None


GOOD = Verdict("UNSET", None, [])


def verdict(span: ReadableSpan) -> Verdict:
    attributes = attributes_of(span)
    recorded = [(event.attributes or {}).get("exception.type") for event in span.events if event.name == "exception"]
    cancelled = attributes.get("asgi_trace.cancelled")
    return Verdict(span.status.status_code.name, attributes.get("error.type"), recorded, cancelled)


def verdicts(spans: CapturedSpans) -> dict[str, Verdict]:
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: verdict(span) for span in spans}


def error(name: str, recorded: bool) -> Verdict:
    return Verdict("ERROR", name, [name] if recorded else [])


def fails() -> None:
    raise ValueError("no stock")


async def fails_async() -> None:
    await asyncio.sleep(0)
    raise ValueError("no stock")


def test_an_exception_is_recorded_with_its_message_and_stack(spans: CapturedSpans) -> None:
    """Type, message, stack trace and the status's description are the exception's."""
    with pytest.raises(ValueError, match="no stock"):
        traced(fails)()
    [span] = spans
    [event] = span.events
    attributes = event.attributes or {}
    assert (span.status.description, attributes["exception.message"]) == ("no stock", "no stock")
    assert "in fails" in str(attributes["exception.stacktrace"])


def nested(spans: CapturedSpans) -> None:
    traced("outer")(traced("middle")(traced("inner")(fails)))()


def nested_async(spans: CapturedSpans) -> None:
    asyncio.run(traced("outer")(traced("middle")(traced("inner")(fails_async)))())


def nested_kinds(spans: CapturedSpans) -> None:
    @traced("inner")
    def steps() -> Iterator[int]:
        yield 0
        fails()

    @traced("middle")
    async def consume() -> None:
        for _ in steps():
            await asyncio.sleep(0)

    traced("outer")(lambda: asyncio.run(consume()))()


def through_a_thread(spans: CapturedSpans) -> None:
    @traced("middle")
    async def middle() -> None:
        await asyncio.to_thread(traced("inner")(fails))

    traced("outer")(lambda: asyncio.run(middle()))()


NESTED = {"outer": error("ValueError", False), "middle": error("ValueError", False), "inner": error("ValueError", True)}


@pytest.mark.parametrize("run", [nested, nested_async, nested_kinds, through_a_thread])
def test_the_innermost_span_records_and_the_others_have_status(
    run: Callable[[CapturedSpans], None], spans: CapturedSpans
) -> None:
    """Through functions, coroutines, generators, threads: one event, and `error.type` on all of them."""
    with pytest.raises(ValueError, match="no stock"):
        run(spans)
    assert verdicts(spans) == NESTED
    assert {span.status.description for span in spans} == {"no stock"}


def test_spans_of_the_sdk_between_them_record_as_ever(spans: CapturedSpans) -> None:
    """`start_as_current_span` records what passes, and changes nothing for the `traced` spans around and inside."""
    tracer = spans.tracer_provider.get_tracer("shop")

    @traced("outer")
    def outer() -> None:
        with tracer.start_as_current_span("by hand"):
            traced("inner")(fails)()

    with pytest.raises(ValueError, match="no stock"):
        outer()
    assert verdicts(spans) == {
        "inner": error("ValueError", True),
        "by hand": Verdict("ERROR", None, ["ValueError"]),
        "outer": error("ValueError", False),
    }


def test_server_and_client_spans_record_as_ever(spans: CapturedSpans) -> None:
    """A call that fails is on the CLIENT span, on the innermost `traced` span and on the SERVER span, once on each."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = httpx.Client(transport=TraceTransport(httpx.MockTransport(refuse)))

    @traced("outer")
    @traced("inner")
    def call() -> None:
        client.get("http://stock.test/")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call()

    with client:
        assert isinstance(drive(TraceMiddleware(app), http_scope("/orders")).exception, httpx.ConnectError)
    by_kind = [(span.kind, verdict(span)) for span in spans]
    assert by_kind == [
        (SpanKind.CLIENT, error("httpx.ConnectError", True)),
        (SpanKind.INTERNAL, error("httpx.ConnectError", True)),
        (SpanKind.INTERNAL, error("httpx.ConnectError", False)),
        (SpanKind.SERVER, error("httpx.ConnectError", True)),
    ]


def test_an_exception_that_is_replaced_is_another_one(spans: CapturedSpans) -> None:
    """What is raised from it, or while it is handled, is recorded where it begins its own way."""

    @traced("outer")
    @traced("middle")
    def middle() -> None:
        try:
            traced("inner")(fails)()
        except ValueError as exc:
            raise RuntimeError("no order") from exc

    with pytest.raises(RuntimeError):
        middle()
    assert verdicts(spans) == {
        "inner": error("ValueError", True),
        "middle": error("RuntimeError", True),
        "outer": error("RuntimeError", False),
    }


def test_an_exception_that_is_handled_stays_inside(spans: CapturedSpans) -> None:
    """Spans that it does not leave are good."""

    @traced("outer")
    def handles() -> int:
        try:
            traced("inner")(fails)()
        except ValueError:
            return 7
        return 0

    assert handles() == 7
    assert verdicts(spans) == {"inner": error("ValueError", True), "outer": GOOD}


def test_an_exception_that_is_raised_anew_is_recorded_anew(spans: CapturedSpans) -> None:
    """One object that every try raises is on the span of every try, and not on the one around them."""
    shared = ValueError("no stock")

    def again(number: int) -> None:
        @traced(f"try {number}")
        def attempt() -> None:
            raise shared

        attempt()

    @traced("outer")
    def retries() -> None:
        for number in range(2):
            with pytest.raises(ValueError, match="no stock"):
                again(number)
        again(2)

    with pytest.raises(ValueError, match="no stock"):
        retries()
    tries = {f"try {number}": error("ValueError", True) for number in range(3)}
    assert verdicts(spans) == {**tries, "outer": error("ValueError", False)}


def test_requests_that_share_an_exception_record_it_each(spans: CapturedSpans) -> None:
    """A future that fails for several at once is recorded in every trace, once, also when they take turns."""

    async def run() -> None:
        shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        arrived = 0
        both = asyncio.Event()

        async def request(number: int) -> None:
            @traced(f"inner {number}")
            async def inner() -> None:
                await shared

            @traced(f"outer {number}")
            async def outer() -> None:
                try:
                    await inner()
                finally:
                    nonlocal arrived
                    arrived += 1
                    if arrived == 2:
                        both.set()
                    await both.wait()

            await outer()

        tasks = [asyncio.create_task(request(number)) for number in range(2)]
        await asyncio.sleep(0)
        shared.set_exception(ValueError("no stock"))
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert verdicts(spans) == {
        f"{place} {number}": error("ValueError", place == "inner")
        for number in range(2)
        for place in ("inner", "outer")
    }


def test_an_exception_that_is_raised_for_ever_stays_small(spans: CapturedSpans) -> None:
    """What it remembers is bounded, and it can be sent to another process."""
    shared = ValueError("no stock")

    @traced
    def attempt() -> None:
        raise shared

    for _ in range(100):
        with pytest.raises(ValueError, match="no stock"):
            attempt()
    assert [verdict(span) for span in spans] == [error("ValueError", True)] * 100
    assert len(pickle.dumps(shared)) < 1000


def test_an_exception_that_is_thrown_into_siblings_is_recorded_by_the_first(spans: CapturedSpans) -> None:
    """Dependencies side by side: the first that the exception reaches has the event, all have the status."""

    def dependency(name: str) -> Any:
        @contextmanager
        @traced(name)
        def session() -> Generator[None, None, None]:
            yield

        return session

    def endpoint() -> None:
        with dependency("last")(), dependency("middle")(), dependency("first")():
            raise ValueError("no stock")

    with pytest.raises(ValueError, match="no stock"):
        traced("request")(endpoint)()
    assert verdicts(spans) == {
        "first": error("ValueError", True),
        "middle": error("ValueError", False),
        "last": error("ValueError", False),
        "request": error("ValueError", False),
    }
    assert len(spans.children_of(spans[-1])) == 3

    spans.clear()
    with pytest.raises(ValueError, match="no stock"):
        endpoint()
    assert [verdict(span) for span in spans] == [error("ValueError", True)] * 3  # three traces: once in each


def group(*exceptions: BaseException) -> BaseException:
    built_in = getattr(builtins, "BaseExceptionGroup", None)
    cls = built_in or pytest.importorskip("exceptiongroup").BaseExceptionGroup  # anyio needs it before Python 3.11
    found: BaseException = cls("all of them", exceptions)
    return found


def raising(exc: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise exc

    return function


def raising_async(exc: BaseException) -> Callable[[], None]:
    async def function() -> None:
        raise exc

    def run() -> None:
        coroutine = traced("it")(function)()
        try:
            coroutine.send(None)
        finally:
            coroutine.close()

    return run


async def cancelled_by_trio() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await traced("it")(trio.sleep_forever)()


async def cancelled_by_asyncio() -> None:
    task = asyncio.ensure_future(traced("it")(asyncio.sleep)(3600))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


CANCELLED = Verdict("UNSET", None, [], True)
CANCELLATIONS: dict[str, Callable[[], None]] = {
    "asyncio": lambda: asyncio.run(cancelled_by_asyncio()),
    "trio": lambda: trio.run(cancelled_by_trio),
}


@pytest.mark.parametrize("by", CANCELLATIONS)
def test_a_cancellation_is_marked_and_no_error(by: str, spans: CapturedSpans) -> None:
    """asyncio's and trio's."""
    CANCELLATIONS[by]()
    assert verdicts(spans) == {"it": CANCELLED}


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (StopIteration(7), GOOD),
        (StopAsyncIteration(), GOOD),
        (GeneratorExit(), GOOD),
        (asyncio.CancelledError(), CANCELLED),
        (group(asyncio.CancelledError()), CANCELLED),
        (SystemExit(2), error("SystemExit", True)),
        (KeyboardInterrupt(), error("KeyboardInterrupt", True)),
        (concurrent.futures.CancelledError(), error("concurrent.futures._base.CancelledError", True)),
        (TimeoutError(), error("TimeoutError", True)),
    ],
)
def test_what_is_an_error(exc: BaseException, expected: Verdict, spans: CapturedSpans) -> None:
    """The end of an iteration and a cancellation are none, whatever else leaves the function is one."""
    with pytest.raises(type(exc)):
        traced("it")(raising(exc))()
    assert verdicts(spans) == {"it": expected}


@pytest.mark.parametrize("exc", [SystemExit(2), KeyboardInterrupt()])
def test_an_interruption_of_a_coroutine_is_an_error(exc: BaseException, spans: CapturedSpans) -> None:
    """As in a function."""
    with pytest.raises(type(exc)):
        raising_async(exc)()
    assert verdicts(spans) == {"it": error(type(exc).__name__, True)}


class Mute(Exception):
    """An exception that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("not ready")


def test_an_exception_without_a_text_is_recorded(spans: CapturedSpans) -> None:
    """Its class is known all the same."""
    with pytest.raises(Mute):
        traced("it")(raising(Mute()))()
    assert verdict(spans[0])[:2] == ("ERROR", f"{__name__}.Mute")


LOGS = """
import os
os.environ["OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"] = {opt_in!r}
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from asgi_trace import traced
from asgi_trace.testing import capture_spans

exporter = InMemoryLogRecordExporter()
provider = LoggerProvider(shutdown_on_exit=False)
provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
set_logger_provider(provider)

@traced("outer")
@traced("inner")
def fails():
    raise ValueError("no stock")

with capture_spans() as spans:
    try:
        fails()
    except ValueError:
        pass
for data in exporter.get_finished_logs():
    record = data.log_record
    print(record.event_name, record.attributes["exception.type"], record.span_id == spans[0].context.span_id)
print([len(span.events) for span in spans])
"""


@pytest.mark.parametrize(("opt_in", "events"), [("logs", 0), ("logs/dup", 1)])
def test_exceptions_go_where_the_environment_says(opt_in: str, events: int) -> None:
    """OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN holds: one log record, with the innermost span's id, beside or instead."""
    pytest.importorskip("opentelemetry.sdk._logs.export")
    lines = check(LOGS.format(opt_in=opt_in)).splitlines()
    assert lines == ["asgi_trace.traced.exception ValueError True", f"[{events}, 0]"]
