"""`TraceMiddleware` as developers meet it: its options, what passes through it, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.context import attach, create_key, detach, get_current, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, get_current_span
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    OK,
    PARENT_ID,
    REQUEST,
    TRACE_ID,
    TRACEPARENT,
    attributes_of,
    body,
    drive,
    http_scope,
    responding,
    serve,
    start,
    websocket_scope,
)
from ..support.servers import eventually, uvicorn_serving


def test_an_unsampled_request_gets_the_servers_own_functions() -> None:
    """What nobody records costs no call for each message, and its context still reaches what the application calls."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = get_current_span().get_span_context()
        seen.extend([receive, send, context.trace_id, context.trace_flags.sampled])

    async def receive() -> Message:
        return REQUEST

    async def send(message: Message) -> None:
        pass

    with capture_spans(ALWAYS_OFF) as spans:
        scope = http_scope(headers=[(b"traceparent", TRACEPARENT)])
        asyncio.run(TraceMiddleware(app)(scope, receive, send))

    assert seen == [receive, send, TRACE_ID, False]
    assert len(spans) == 0


# --- what passes through ---


def test_the_application_gets_the_very_scope(spans: CapturedSpans) -> None:
    """The scope is passed on, not copied: what the server or the application puts there is there for both."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        scope["user"] = "ada"
        await OK(scope, receive, send)

    scope = http_scope(extensions={"http.response.pathsend": {}})
    drive(TraceMiddleware(app), scope)

    assert seen[0] is scope
    assert scope["user"] == "ada"
    assert scope["extensions"] == {"http.response.pathsend": {}}


def test_messages_reach_the_server_as_the_very_objects(spans: CapturedSpans) -> None:
    """No message is copied or changed on its way, in either direction."""
    sent = [start(200, [(b"x-id", b"1")]), body(b"a", True), body(b"b")]
    arrived: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() is REQUEST
        for message in sent:
            await send(message)

    drive(TraceMiddleware(app), on_send=arrived.append)

    assert all(one is other for one, other in zip(arrived, sent, strict=True))


@pytest.mark.parametrize("kind", ["lifespan", "zerog", ""])
def test_other_scopes_pass_through(spans: CapturedSpans, kind: str) -> None:
    """`lifespan` and scope types that nobody knows reach the application once, with their messages."""
    calls: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(dict(scope))
        assert await receive() == {"type": "one"}
        await send({"type": "two"})

    served = drive(TraceMiddleware(app), {"type": kind}, [{"type": "one"}])

    assert calls == [{"type": kind}]
    assert served.messages == [{"type": "two"}]
    assert len(spans) == 0


def test_an_application_of_asgi_2_is_served(spans: CapturedSpans) -> None:
    """`app(scope)` that returns `instance(receive, send)` is called once and traced as any other."""
    calls: list[str] = []

    class Version2:
        def __init__(self, scope: Scope) -> None:
            calls.append(scope["path"])
            self.scope = scope

        async def __call__(self, receive: Receive, send: Send) -> None:
            await OK(self.scope, receive, send)

    served = drive(TraceMiddleware(Version2), http_scope("/old"))  # type: ignore[arg-type]

    assert (calls, served.status) == (["/old"], 200)
    assert spans.server.attributes is not None


def test_headers_that_can_be_read_only_once_reach_the_application(spans: CapturedSpans) -> None:
    """A server may hand over any iterable of headers: the application still gets all of them."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])

    lines = [(b"host", b"shop.test"), (b"traceparent", TRACEPARENT)]
    drive(TraceMiddleware(app), http_scope(headers=iter(lines)))

    assert seen == lines
    assert spans.server.context.trace_id == TRACE_ID


def test_the_body_is_left_to_the_application(spans: CapturedSpans) -> None:
    """The middleware reads no part of the request by itself: a body that nobody asks for stays with the server."""
    served = drive(TraceMiddleware(OK), script=[REQUEST])

    assert served.received == 0


# --- the context of the application ---


def test_exception_handlers_and_inner_middleware_run_inside_the_span(spans: CapturedSpans) -> None:
    """The framework's error handlers, every middleware below and the server's log see the request's trace id."""
    seen: list[int] = []

    def note() -> None:
        seen.append(get_current_span().get_span_context().trace_id)

    class Inner:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            note()
            await self.app(scope, receive, send)

    async def on_error(request: Any, exc: Exception) -> PlainTextResponse:
        note()
        return PlainTextResponse("sorry", 500)

    async def fails(request: Any) -> PlainTextResponse:
        note()
        raise ValueError

    app = Starlette(
        routes=[Route("/", fails)], middleware=[Middleware(Inner)], exception_handlers={Exception: on_error}
    )
    drive(TraceMiddleware(app))

    assert seen == [spans.server.context.trace_id] * 3


@pytest.mark.parametrize("provider", [None, NoOpTracerProvider()], ids=["recorded", "no provider"])
@pytest.mark.parametrize("headers", [[], [(b"traceparent", TRACEPARENT)]], ids=["no caller", "a caller"])
def test_the_context_starts_from_empty(spans: CapturedSpans, provider: Any, headers: list[Any]) -> None:
    """Values that somebody left in the server's context do not reach the application, and are there afterwards."""
    key = create_key("tenant")
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_current().get(key))

    token = attach(set_value(key, "acme"))
    drive(TraceMiddleware(app, tracer_provider=provider), http_scope(headers=headers))
    after = get_current().get(key)
    detach(token)

    assert (seen, after) == ([None], "acme")


def test_suppressed_instrumentation_is_obeyed(spans: CapturedSpans) -> None:
    """Where OpenTelemetry's suppression key is set, no span is made."""
    with suppress_instrumentation():
        served = drive(TraceMiddleware(OK))

    assert served.status == 200
    assert len(spans) == 0


def test_without_a_provider_the_callers_context_is_passed_on() -> None:
    """With no SDK at all, what the application calls still continues the caller's trace."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_current_span().get_span_context())
        assert not server_span().is_recording()

    drive(TraceMiddleware(app), http_scope(headers=[(b"traceparent", TRACEPARENT)]))

    assert (seen[0].trace_id, seen[0].span_id) == (TRACE_ID, PARENT_ID)


# --- one span, and no more ---


@pytest.mark.parametrize("chunks", [1, 10, 1000])
def test_one_span_whatever_the_number_of_messages(spans: CapturedSpans, chunks: int) -> None:
    """A request is one SERVER span, without a child or an event for each message that it consists of."""
    messages = [start(), *[body(b"x", True)] * (chunks - 1), body(b"x")]
    drive(TraceMiddleware(responding(*messages)), script=[{**REQUEST, "more_body": True}] * chunks)

    assert [(span.kind, len(span.events)) for span in spans] == [(SpanKind.SERVER, 0)]


@pytest.mark.parametrize("place", ["around", "as a middleware of the application"])
def test_both_ways_to_install_it_work(spans: CapturedSpans, place: str) -> None:
    """`TraceMiddleware(app)` and `app.add_middleware(TraceMiddleware)` make the same span."""
    application = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    @application.get("/items/{item}")
    def item(item: str) -> str:
        return item

    app: Any = application
    if place == "around":
        app = TraceMiddleware(application)
    else:
        application.add_middleware(TraceMiddleware)
    drive(app, http_scope("/items/7"))

    assert spans.server.name == "GET /items/{item}"


def test_the_span_says_which_library_made_it(spans: CapturedSpans) -> None:
    """The instrumentation scope has the package's name and version, and the schema of the conventions it follows."""
    drive(TraceMiddleware(OK))

    scope = spans.server.instrumentation_scope
    assert scope is not None
    assert scope.name == "asgi_trace"
    assert scope.version
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"


def test_parallel_requests_do_not_share_anything(spans: CapturedSpans) -> None:
    """A hundred requests at once on one middleware, each with its own trace, path, route and code."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        number = int(scope["path"][1:])
        await asyncio.sleep(0.001 * (number % 7))
        server_span().set_attribute("number", number)
        await send(start(200 + number))
        await asyncio.sleep(0.001 * (number % 5))
        await send(body())

    traced = TraceMiddleware(app)

    async def main() -> None:
        await asyncio.gather(*(serve(traced, http_scope(f"/{number}")) for number in range(100)))

    asyncio.run(main())

    seen: list[dict[str, Any]] = [attributes_of(span) for span in spans]
    assert len(seen) == 100
    for attributes in seen:
        assert attributes["url.path"] == f"/{attributes['number']}"
        assert attributes["http.response.status_code"] == 200 + attributes["number"]
    assert len({span.context.trace_id for span in spans}) == 100


def test_one_middleware_serves_several_threads(spans: CapturedSpans) -> None:
    """Event loops in threads of their own share a middleware without locks or mix-ups."""
    traced = TraceMiddleware(OK)
    failures: list[BaseException] = []

    async def many(name: int) -> None:
        for number in range(200):
            trace = f"{name:016x}{number + 1:016x}"
            header = f"00-{trace}-b7ad6b7169203331-01".encode()
            served = await serve(traced, http_scope(f"/{trace}", headers=[(b"traceparent", header)]))
            assert served.status == 200

    def run(name: int) -> None:
        try:
            asyncio.run(many(name))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert len(spans) == 800
    for span in spans:
        assert attributes_of(span)["url.path"] == f"/{span.context.trace_id:032x}"


def test_the_application_can_be_collected() -> None:
    """Nothing of the package holds on to an application: no registry, no cache."""

    class App:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await OK(scope, receive, send)

    app = App()
    reference = weakref.ref(app)
    with capture_spans():
        drive(TraceMiddleware(app))
    del app
    gc.collect()

    assert reference() is None


# --- real servers ---


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_it_is_an_asgi_3_application_to_uvicorn(spans: CapturedSpans, http: str) -> None:
    """Uvicorn recognises the interface by itself, and the span has the addresses of the real sockets."""
    with uvicorn_serving(TraceMiddleware(OK), http=http, lifespan="off") as server:
        response = server.get("/a%20b?q=1", headers=[("User-Agent", "curl/8"), ("Host", f"127.0.0.1:{server.port}")])
        assert response.body == b"ok"
        eventually(lambda: len(spans), "the span")

    attributes = attributes_of(spans.server)
    assert attributes.pop("network.peer.port")
    assert attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/a%20b",
        "url.query": "q=1",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
    }


WORKERS = """
import os
import sys

import uvicorn
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from asgi_trace import TraceMiddleware


class ToStdout(SpanExporter):
    def export(self, spans):
        for span in spans:
            os.write(1, f"{os.getpid()} {span.name}\\n".encode())


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


traced = TraceMiddleware(app)
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(ToStdout()))
trace.set_tracer_provider(provider)

if __name__ == "__main__":
    uvicorn.run("served:traced", port=0, workers=2, lifespan="off", log_level="info")
"""


def test_every_worker_process_exports_its_spans(tmp_path: Any) -> None:
    """With two workers of uvicorn, started by spawning, both record: nothing depends on the process that imports."""
    (tmp_path / "served.py").write_text(WORKERS)
    process = subprocess.Popen(
        [sys.executable, "-u", "served.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path]), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        port, started = 0, 0
        for line in process.stderr:
            if "running on http://" in line:
                port = int(line.split("127.0.0.1:")[1].split()[0])
            started += "Started server process" in line
            if port and started == 2:
                break
        answered = _pids(port, 2)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)

    assert answered <= {line.split()[0] for line in output.splitlines() if line.endswith(" GET")}


def _pids(port: int, enough: int) -> set[str]:
    from ..support.servers import Connection

    pids: set[str] = set()

    def ask() -> bool:
        try:
            connection = Connection(port)
        except ConnectionRefusedError:  # a worker says that it has started before it listens
            return False
        with connection:
            connection.request(headers=[("Connection", "close")])
            pids.add(connection.response().body.decode())
        return len(pids) >= enough

    eventually(ask, "answers of all workers")
    return pids


def is_coroutine_function(function: Any) -> bool:
    """Does a caller that looks before it calls see a coroutine function?"""
    if sys.version_info >= (3, 12):
        return inspect.iscoroutinefunction(function)
    return asyncio.iscoroutinefunction(function)


@pytest.mark.parametrize("options", [{}, {"metrics": "http.server.response.body.size"}])
@pytest.mark.parametrize("scope", [http_scope(), websocket_scope()], ids=["http", "websocket"])
def test_what_the_application_gets_looks_like_coroutine_functions(
    spans: CapturedSpans, scope: Scope, options: dict[str, Any]
) -> None:
    """Libraries look before they call, and asgiref warns: `receive` and `send` are what they stand for."""
    seen: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((is_coroutine_function(receive), is_coroutine_function(send)))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    asyncio.run(TraceMiddleware(app, meter_provider=meters, **options)(scope, receive, send))
    assert seen == [True, True]
    assert len(spans) == 1
