"""The server's own log lines, over real servers: their ids are those of the spans that were exported."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import hypercorn.asyncio
import hypercorn.config
import pytest
import websockets.sync.client
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.logging import JSONFormatter, TraceContextFilter, uvicorn_log_config
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import TRACE_ID, TRACEPARENT, body, start
from ..support.log_capture import ids_of, loggers_restored, logging_uvicorn
from ..support.servers import UvicornServer, request_bytes

parsers = pytest.mark.parametrize("http", ["h11", "httptools"])


async def endings(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/raises":
        raise ValueError("no such order")
    if path == "/unanswered":
        return
    await send(start({"/missing": 404, "/fails": 500}.get(path, 200), [(b"content-length", b"2")]))
    if path == "/half":
        return
    await send(body(b"ok"))
    if path == "/late":
        raise ValueError("after the response")


PATHS = {"/ok": 200, "/missing": 404, "/fails": 500, "/raises": 500, "/unanswered": 500, "/half": 200, "/late": 200}
FAILING = {"/raises": "ValueError: no such order", "/late": "ValueError: after the response"}


def get(server: UvicornServer, *paths: str) -> None:
    for path in paths:
        if path == "/half":
            with suppress(EOFError):
                server.get(path)
        else:
            assert server.get(path).status == PATHS[path]


def by_path(spans: CapturedSpans) -> dict[str, ReadableSpan]:
    return {str((span.attributes or {})["url.path"]): span for span in spans.of_kind(SpanKind.SERVER)}


def flags(span: ReadableSpan) -> str:
    return f"{span.context.trace_flags:02x}"


def ids_in(line: dict[str, Any]) -> tuple[str, str]:
    return line.get("trace_id", "0"), line.get("span_id", "0")


LINE = re.compile(r'INFO: +127.0.0.1:\d+ - "GET (\S+) HTTP/1.1" (\d+).* trace_id=(\w+) span_id=(\w+) (.*)')


@parsers
def test_every_access_line_carries_the_ids_of_the_exported_span(http: str, spans: CapturedSpans) -> None:
    """The ids of every access line are those of the request's span, also where the server answers by itself."""
    with logging_uvicorn(TraceMiddleware(endings), http=http) as (server, log):
        get(server, *PATHS)

    matches = [LINE.fullmatch(line) for line in log.access]
    assert len(matches) == len(PATHS)
    seen = {match[1]: (int(match[2]), (match[3], match[4]), match[5]) for match in matches if match}
    exported = by_path(spans)
    assert seen == {
        path: (status, ids_of(exported[path]), f"trace_flags={flags(exported[path])} service.name=shop")
        for path, status in PATHS.items()
    }


@parsers
def test_every_json_access_line_carries_the_ids_of_the_exported_span(http: str, spans: CapturedSpans) -> None:
    """As JSON, one object a line holds the message, the ids and the service's name."""
    with logging_uvicorn(TraceMiddleware(endings), http=http, json_lines=True) as (server, log):
        get(server, *PATHS)

    lines = [json.loads(line) for line in log.access]
    assert [line["message"].split('"', 1)[1] for line in lines] == [
        f'GET {path} HTTP/1.1" {status}' for path, status in PATHS.items()
    ]
    exported = by_path(spans)
    for line, path in zip(lines, PATHS, strict=True):
        assert ids_in(line) == ids_of(exported[path])
        assert line["trace_flags"] == flags(exported[path])
        assert (line["logger"], line["level"], line["service.name"]) == ("uvicorn.access", "INFO", "shop")


@parsers
def test_the_servers_error_log_carries_the_ids(http: str, spans: CapturedSpans) -> None:
    """The traceback and the other complaints of the server carry the ids of the request that they are about."""
    with logging_uvicorn(TraceMiddleware(endings), http=http, json_lines=True) as (server, log):
        get(server, *PATHS)

    lines = [json.loads(line) for line in log.error]
    seen = {ids_in(line): line for line in lines if line["level"] == "ERROR"}
    exported = by_path(spans)
    assert {path for path in PATHS if ids_of(exported[path]) in seen} == {*FAILING, "/unanswered", "/half"}
    for path, text in FAILING.items():
        line = seen[ids_of(exported[path])]
        assert line["message"] == "Exception in ASGI application\n"
        assert line["exception"].endswith(text)
    assert seen[ids_of(exported["/unanswered"])]["message"] == "ASGI callable returned without starting response."
    assert seen[ids_of(exported["/half"])]["message"] == "ASGI callable returned without completing response."
    assert [line["message"] for line in lines if line["level"] == "INFO" and "trace_id" in line] == []


@parsers
def test_the_plain_error_log_carries_the_ids(http: str, spans: CapturedSpans) -> None:
    """In plain text the ids stand on the line of the message, ahead of the traceback."""
    with logging_uvicorn(TraceMiddleware(endings), http=http) as (server, log):
        get(server, "/raises")

    trace_id, span_id = ids_of(spans.server)
    ids = f"trace_id={trace_id} span_id={span_id} trace_flags={flags(spans.server)} service.name=shop"
    assert f"ERROR:    [{ids}] Exception in ASGI application" in log.error
    assert log.error[0].startswith("INFO:     [trace_id=0 span_id=0 trace_flags=00 service.name=shop] Started server")


@parsers
def test_requests_of_one_connection_have_their_own_ids(http: str, spans: CapturedSpans) -> None:
    """Pipelined requests, which uvicorn starts in the context of the one before, are logged with their own ids."""
    paths = ["/ok", "/missing", "/ok", "/fails", "/ok", "/raises"]
    serving = logging_uvicorn(TraceMiddleware(endings), http=http, json_lines=True)
    with serving as (server, log), server.connect() as connection:
        connection.send(b"".join(map(request_bytes, paths)))
        assert [connection.response().status for _ in paths] == [PATHS[path] for path in paths]

    access = [json.loads(line) for line in log.access]
    assert len(spans) == len(paths)
    assert [ids_in(line) for line in access] == [ids_of(span) for span in spans]
    [traceback] = [line for line in log.records() if "exception" in line]
    assert ids_in(traceback) == ids_of(spans[-1])


@parsers
def test_the_access_line_is_the_servers_not_that_of_a_span_within(http: str, spans: CapturedSpans) -> None:
    """An application that sends its response inside a span of its own has the SERVER span in the access line."""
    tracer = spans.tracer_provider.get_tracer("shop")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("render"):
            await endings(scope, receive, send)

    with logging_uvicorn(TraceMiddleware(app), http=http, json_lines=True) as (server, log):
        get(server, "/ok")
    assert [ids_in(json.loads(line)) for line in log.access] == [ids_of(spans.server)]


@parsers
def test_an_unsampled_request_is_logged_with_the_callers_trace_id(http: str) -> None:
    """Ids are there without sampling, with flags that say that nothing was recorded."""
    serving = logging_uvicorn(TraceMiddleware(endings), http=http, json_lines=True)
    with capture_spans(ALWAYS_OFF), serving as (server, log):
        for path in ("/ok", "/raises"):
            server.get(path, headers=[("traceparent", TRACEPARENT.decode())])

    lines = [line for line in log.records() if "trace_id" in line]
    assert len(lines) == 3
    for line in lines:
        assert (line["trace_id"], line["trace_flags"]) == (f"{TRACE_ID:032x}", "00")
        assert re.fullmatch("[0-9a-f]{16}", line["span_id"])


async def boom(request: Request) -> PlainTextResponse:
    raise ValueError("no such order")


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@parsers
@pytest.mark.parametrize("placed", ["around", "add_middleware"])
def test_starlettes_own_500_is_logged_with_the_ids(http: str, placed: str, spans: CapturedSpans) -> None:
    """Wrapped or added, inside or outside of what answers 500: access line and traceback carry the request's ids."""
    app = Starlette(routes=[Route("/ok", hello), Route("/raises", boom)])
    if placed == "add_middleware":
        app.add_middleware(TraceMiddleware)
    wrapped: ASGIApp = TraceMiddleware(app) if placed == "around" else app
    with logging_uvicorn(wrapped, http=http, json_lines=True) as (server, log):
        get(server, "/ok", "/raises")

    seen = [ids_in(line) for line in log.records() if "trace_id" in line]
    ok, raises = ids_of(spans[0]), ids_of(spans[1])
    assert seen == [ok, raises, raises]


def websocket_endings(accept: bool, fail: bool) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if accept:
            await send({"type": "websocket.accept"})
        if fail:
            raise ValueError("no such feed")
        await send({"type": "websocket.close"})

    return app


WEBSOCKETS = {
    "accept": (True, False, "[accepted]"),
    "refuse": (False, False, "403"),
    "fail": (True, True, "[accepted]"),
}


@parsers
@pytest.mark.parametrize("ending", WEBSOCKETS)
def test_websocket_lines_carry_the_ids(http: str, ending: str, spans: CapturedSpans) -> None:
    """The server's lines on a WebSocket, accepted, refused or failed, carry the ids of its span."""
    accept, fail, word = WEBSOCKETS[ending]
    app = TraceMiddleware(websocket_endings(accept, fail))
    with logging_uvicorn(app, http=http, ws="websockets-sansio", json_lines=True) as (server, log):
        url = f"ws://127.0.0.1:{server.port}/feed"
        if accept:
            closed = pytest.raises(websockets.exceptions.ConnectionClosed)
            with websockets.sync.client.connect(url) as feed, closed:
                feed.recv(timeout=60)
        else:
            with pytest.raises(websockets.exceptions.InvalidStatus):
                websockets.sync.client.connect(url)

    told = [line for line in log.records() if "/feed" in line["message"] or "exception" in line]
    assert len(told) == 1 + fail
    assert told[0]["message"].endswith(word)
    assert {ids_in(line) for line in told} == {ids_of(spans.server)}


SERVED = """
import os, uvicorn
from opentelemetry.sdk.trace import TracerProvider
from asgi_trace import TraceMiddleware, server_span

async def app(scope, receive, send):
    span = server_span().get_span_context()
    ids = f"{span.trace_id:032x} {span.span_id:016x}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"49")]})
    await send({"type": "http.response.body", "body": ids})
    os.kill(os.getpid(), 15)

app = TraceMiddleware(app, tracer_provider=TracerProvider())
"""


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_the_configuration_serves_uvicorns_command_line(suffix: str, tmp_path: Path) -> None:
    """Dumped to a file, the configuration makes `uvicorn --log-config` write the ids, in either file format."""
    config = uvicorn_log_config(json=True, service_name="shop")
    dumped = json.dumps(config) if suffix == ".json" else pytest.importorskip("yaml").safe_dump(config)
    (tmp_path / f"logs{suffix}").write_text(dumped)
    (tmp_path / "served.py").write_text(SERVED)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        command = [sys.executable, "-m", "uvicorn", "served:app", "--fd", str(sock.fileno()), "--no-use-colors"]
        server = subprocess.Popen(
            [*command, "--app-dir", str(tmp_path), "--log-config", str(tmp_path / f"logs{suffix}")],
            pass_fds=[sock.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with server:
            told = httpx.get(f"http://127.0.0.1:{sock.getsockname()[1]}/", trust_env=False, timeout=60).text
            access, error = server.communicate(timeout=60)

    [line] = [json.loads(text) for text in access.splitlines()]
    assert f"{line['trace_id']} {line['span_id']}" == told
    assert {json.loads(text)["service.name"] for text in error.splitlines()} == {"shop"}


def test_hypercorns_lines_carry_the_ids(spans: CapturedSpans) -> None:
    """The filter knows the loggers of another server too: its access line, its traceback, its own 500."""
    log = StringIO()
    handler = logging.StreamHandler(log)
    handler.addFilter(TraceContextFilter("shop"))
    handler.setFormatter(JSONFormatter())
    loggers = [logging.getLogger(name) for name in ("hypercorn.access", "hypercorn.error")]

    async def run() -> None:
        config = hypercorn.config.Config()
        config.accesslog, config.errorlog = loggers
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        config.bind = [f"fd://{sock.detach()}"]
        done = asyncio.Event()
        app: Any = TraceMiddleware(endings)
        serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=done.wait))
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            for path in ("/ok", "/missing", "/raises", "/unanswered"):
                await client.get(path)
        done.set()
        await serving

    with loggers_restored("hypercorn.access", "hypercorn.error"):
        for logger in loggers:
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.INFO)
        asyncio.run(run())

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    ok, missing, raises, unanswered = (ids_of(span) for span in spans.of_kind(SpanKind.SERVER))
    access = [line for line in lines if line["logger"] == "hypercorn.access"]
    assert [ids_in(line) for line in access] == [ok, missing, raises, unanswered]
    [traceback] = [line for line in lines if "exception" in line]
    assert ids_in(traceback) == raises
