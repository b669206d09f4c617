"""uvicorn under one peer, with accounts of its CPU time: `python -m benchmarks.serving JSON`.

The JSON names the peer, the sampling rate, where spans go and the core to stay on. The process says its port in the
first line that it prints; every line that it reads makes it flush what is waiting and answer with its accounts so far:
the whole process, the event loop's thread, and the export with the encoding inside it.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from .receiver import pin
from .results import CONFIGURED
from .traffic import App


class Accounts:
    """CPU seconds of this process, by what they were spent on."""

    def __init__(self) -> None:
        self.encoding = 0.0
        self.export = 0.0
        self._loop = time.pthread_getcpuclockid(threading.get_ident())

    def encode(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose time counts as encoding."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.encoding += time.thread_time() - started

        return timed

    def exported(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose time counts as export, encoding included."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.export += time.thread_time() - started

        return timed

    def now(self) -> dict[str, float]:
        """All of them."""
        return {
            "process": time.process_time(),
            "loop": time.clock_gettime(self._loop),
            "encoding": self.encoding,
            "export": self.export,
        }


def _null_exporter() -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Null(SpanExporter):
        def export(self, spans: Sequence[Any]) -> Any:
            return SpanExportResult.SUCCESS

    return Null()


def _official_exporter(endpoint: str, accounts: Accounts) -> Any:
    module = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    vars(module)["encode_spans"] = accounts.encode(vars(module)["encode_spans"])
    exporter = module.OTLPSpanExporter(endpoint=endpoint, insecure=True)
    exporter.export = accounts.exported(exporter.export)
    return exporter


def _provider(sampling: float, exporter: Any) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sampling)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=65_536))
    return provider


def _configured(sampling: float, endpoint: str, accounts: Accounts) -> Any:
    """What `configure()` sets up, its exporter's methods under account."""
    module = import_module("asgi_trace._export.exporter")
    made = module.OTLPSpanExporter
    before = made.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        before(self, *args, **kwargs)
        self._encode = accounts.encode(self._encode)

    made.__init__ = init
    made.export = accounts.exported(made.export)
    return import_module("asgi_trace").configure(
        service_name="bench",
        endpoint=endpoint,
        sampler=sampling,
        max_queue_size=65_536,
        metrics=False,
    )


def _application() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/hello/{name}", hello)])


def _traced(peer: str, app: Any, provider: Any) -> App:
    if peer == CONFIGURED:
        app.add_middleware(import_module("asgi_trace").TraceMiddleware)
    elif peer == "asgi-trace":
        app.add_middleware(import_module("asgi_trace").TraceMiddleware, tracer_provider=provider)
    elif peer == "starlette":
        module = import_module("starlette.middleware.opentelemetry")
        app.add_middleware(module.OpenTelemetryMiddleware, tracer_provider=provider)
    elif peer in ("contrib", "contrib-quiet"):
        options = {"exclude_spans": ["receive", "send"]} if peer == "contrib-quiet" else {}
        module = import_module("opentelemetry.instrumentation.asgi")
        app.add_middleware(module.OpenTelemetryMiddleware, tracer_provider=provider, **options)
    traced: App = app
    return traced


def main(options: dict[str, Any]) -> None:
    """Serve until stdin closes."""
    import uvicorn

    pin(options["core"])
    accounts = Accounts()
    peer, sampling, endpoint = options["peer"], options["sampling"], options["endpoint"]
    provider: Any = None
    flush: Callable[[int], object] = lambda timeout: True  # noqa: E731
    if peer == CONFIGURED:
        flush = _configured(sampling, endpoint, accounts).force_flush
    elif peer != "bare":
        exporter = _official_exporter(endpoint, accounts) if options["exporter"] == "grpc" else _null_exporter()
        provider = _provider(sampling, exporter)
        flush = provider.force_flush
    app = _traced(peer, _application(), provider)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", http="httptools", ws="none")
    server = uvicorn.Server(config)

    def control() -> None:
        for _ in sys.stdin:
            flush(10_000)
            print(json.dumps(accounts.now()), flush=True)
        server.should_exit = True

    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    threading.Thread(target=control, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
