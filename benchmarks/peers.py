"""How each peer is put around an application, a client or a function.

Peers on OpenTelemetry get one SDK provider with `ParentBased(ALWAYS_ON)`, a span processor that does nothing and no
meter provider; nothing is set as a global. Every peer runs with its defaults except where its name says otherwise.
asgi-trace is measured twice: on that provider, and as `configure()` sets it up, in a process of its own with the batch
processor's queue in place and an exporter that drops the spans. What belongs to a vendor is in `vendors`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from . import cases, traffic
from .cases import Case
from .traffic import App, Requests, Runner, Unit, application

MAIN = "main"


class Peer:
    """What is measured: wraps an application, a client or a function, and says which rows make sense.

    A measuring process is named by its environment and a word for what is set up in it, such as `main/configured`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    environment: ClassVar[str] = MAIN
    skips: ClassVar[frozenset[str]] = frozenset()
    """Sides, shapes and states that this peer cannot do."""
    middleware: ClassVar[str] = ""
    """`module:class` of its ASGI middleware; the module must be importable where the peer is measured."""
    excludes: ClassVar[dict[str, Any]] = {}
    """The middleware's arguments in the rows `excluded`."""
    captures: ClassVar[dict[str, Any]] = {}
    """The middleware's arguments in the rows `captured-header`."""
    variables: ClassVar[dict[str, str]] = {}
    """Environment variables of its own process."""

    def measures(self, case: Case) -> bool:
        """True where this peer can do what the row asks for."""
        return not self.skips & {case.side, case.shape, case.state}

    def process(self, case: Case) -> str:
        """The kind of process that measures this peer in that row."""
        return self.environment if self.environment == MAIN else f"{self.environment}/on"

    @property
    def bare_process(self) -> str:
        """The kind of process that measures the bare application beside this peer: one that the peer never touches."""
        return self.environment if self.environment == MAIN else f"{self.environment}/bare"

    def header(self, trace_id: str, span_id: str, sampled: bool) -> traffic.Header:
        """The header with which a caller hands its context on."""
        return traffic.traceparent(trace_id, span_id, sampled)

    def start(self, word: str) -> None:
        """Set up a process of its own, before any framework is imported there."""

    def providers(self, case: Case) -> dict[str, Any]:
        """The arguments that hand OpenTelemetry's providers to a middleware, a transport or an instrumentor."""
        return {}

    def options(self, case: Case) -> dict[str, Any]:
        """All arguments of the middleware in that row."""
        excludes = self.excludes if case.state == cases.EXCLUDED else {}
        captures = self.captures if case.shape == cases.CAPTURED else {}
        return {**self.providers(case), **excludes, **captures}

    def server(self, case: Case) -> App:
        """The application of that row, with the peer around it."""
        app, middleware, options = application(case), attribute(self.middleware), self.options(case)
        if not hasattr(app, "add_middleware"):
            wrapped: App = middleware(app, **options)
            return wrapped
        app.add_middleware(middleware, **options)
        return app

    def client(self, case: Case) -> Unit:
        """The client calls of that row."""
        import httpx

        return traffic.calls_of_client(httpx.AsyncClient(transport=traffic.mock_transport(case)))

    def spans(self, case: Case) -> Unit:
        """Ten spans, or ten calls of a decorated function."""
        raise NotImplementedError

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        """What every unit of that row runs inside."""
        return nullcontext()

    def settle(self) -> None:
        """After a measurement: drop what has been collected."""

    def export(self, sampling: float, endpoint: str) -> Callable[[], object]:
        """Send this process's spans to a collector over OTLP/gRPC from now on; returns what flushes them."""
        return lambda: None

    def runner(self, case: Case) -> Runner:
        """Everything put together, ready to run."""
        if case.side == cases.SERVER:
            unit: Unit = Requests(case, self.server(case), self.header)
        else:
            unit = self.client(case) if case.side == cases.CLIENT else self.spans(case)
        ahead = case.shape == cases.TRANSPORT
        return Runner(unit, lambda: self.surroundings(case), ahead=ahead, settle=self.settle)


def attribute(path: str) -> Any:
    """What stands at `module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


# --- peers on OpenTelemetry ---

_exporting: list[Any] = []  # the provider that exports, in a process of the end-to-end measurement


@cache
def _quiet_provider() -> Any:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

    made = TracerProvider(sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    made.add_span_processor(SpanProcessor())
    return made


def provider() -> Any:
    """The SDK's provider of this process: samples all, unless the caller says no, and exports nothing."""
    return _exporting[0] if _exporting else _quiet_provider()


@cache
def _meter_provider() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False)


@contextmanager
def current_span(case: Case) -> Iterator[None]:
    """The span of the request that a call is made for: sampled, unsampled, or none at all."""
    if case.side == cases.SERVER or case.state == cases.NO_PROVIDER:
        yield
        return
    from opentelemetry import context, trace

    flags = trace.TraceFlags.SAMPLED if case.state == cases.SAMPLED else trace.TraceFlags.DEFAULT
    parent = trace.SpanContext(traffic.TRACE_ID, traffic.SPAN_ID, False, trace.TraceFlags(flags))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    yield
    context.detach(token)


class OpenTelemetryPeer(Peer):
    """A peer that takes OpenTelemetry's provider."""

    skips = frozenset({cases.FULL_QUEUE})

    def providers(self, case: Case) -> dict[str, Any]:
        if case.state == cases.NO_PROVIDER:
            return {}
        metrics = {"meter_provider": _meter_provider()} if case.shape == cases.METRIC else {}
        return {"tracer_provider": provider(), **metrics}

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        return current_span(case)

    def export(self, sampling: float, endpoint: str) -> Callable[[], object]:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        made = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sampling)), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True)
        made.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=65_536))
        _exporting[:] = [made]
        return made.force_flush


class Bare(Peer):
    """Without tracing: what every overhead is counted from."""

    name = "bare"
    title = "no tracing"

    def server(self, case: Case) -> App:
        return application(case)

    def client(self, case: Case) -> Unit:
        if case.shape == cases.TRANSPORT:
            return traffic.calls_of_transport(traffic.mock_transport(case))
        return super().client(case)

    def spans(self, case: Case) -> Unit:
        return traffic.ten_calls(traffic.plain_function)


class AsgiTrace(OpenTelemetryPeer):
    """asgi-trace with every feature at its default: trust, redaction, route, guard."""

    name = "asgi-trace"
    title = "asgi-trace"
    skips = frozenset({cases.FULL_QUEUE, cases.CHILDREN})  # with the SDK's provider, children are the SDK's own spans
    middleware = "asgi_trace:TraceMiddleware"
    excludes: ClassVar[dict[str, Any]] = {"exclude": "^/items/"}
    captures: ClassVar[dict[str, Any]] = {"capture_request_headers": traffic.CAPTURED_HEADER}

    def client(self, case: Case) -> Unit:
        import httpx

        make = import_module("asgi_trace.httpx").AsyncTraceTransport
        transport = make(traffic.mock_transport(case), **self.providers(case))
        if case.shape == cases.TRANSPORT:
            return traffic.calls_of_transport(transport)
        return traffic.calls_of_client(httpx.AsyncClient(transport=transport))

    def spans(self, case: Case) -> Unit:
        return traffic.ten_calls(attribute("asgi_trace:traced")(traffic.plain_function, **self.providers(case)))


class AsgiTraceConfigured(AsgiTrace):
    """The same after `configure()`, whose tracer, spans and encoder are faster drop-ins for the SDK's."""

    name = "asgi-trace-configured"
    title = "asgi-trace, configure()"
    skips = frozenset({cases.NO_PROVIDER})
    _tracing: Any = None

    def process(self, case: Case) -> str:
        word = case.shape if case.shape in (cases.METRIC, cases.FULL_QUEUE) else "configured"
        return f"{MAIN}/{word}"

    def start(self, word: str) -> None:
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        full = word == cases.FULL_QUEUE
        size = 64 if full else 65_536
        self._tracing = attribute("asgi_trace:configure")(
            service_name="bench",
            exporter=_dropping_exporter(blocks=full),
            max_queue_size=size,
            max_export_batch_size=size,
            schedule_delay_millis=3_600_000,  # an export happens in `settle()` only, which is not measured
            metrics=InMemoryMetricReader() if word == cases.METRIC else False,
        )
        if full:
            tracer = self._tracing.tracer_provider.get_tracer("bench")
            for _ in range(4 * size):
                tracer.start_span("fills the queue").end()

    def settle(self) -> None:
        self._tracing.force_flush(100)  # fails where the exporter blocks

    def providers(self, case: Case) -> dict[str, Any]:
        return {}  # the globals, as for a user of `configure()`

    def spans(self, case: Case) -> Unit:
        if case.shape == cases.TRACED:
            return super().spans(case)
        return _children(self._tracing.tracer_provider)

    def export(self, sampling: float, endpoint: str) -> Callable[[], object]:
        tracing = attribute("asgi_trace:configure")(
            service_name="bench", endpoint=endpoint, sampler=sampling, max_queue_size=65_536, metrics=False
        )
        flush: Callable[[], object] = tracing.force_flush
        return flush


def _dropping_exporter(blocks: bool) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Dropping(SpanExporter):
        def export(self, spans: Sequence[Any]) -> Any:
            if blocks:
                threading.Event().wait()
            return SpanExportResult.SUCCESS

    return Dropping()


def _children(tracer_provider: Any) -> Unit:
    start = tracer_provider.get_tracer("bench").start_as_current_span
    return traffic.ten_spans(lambda index: start("load order", attributes={"order.id": index}))


class StarletteOwn(OpenTelemetryPeer):
    """`starlette.middleware.opentelemetry`. It does not trace WebSockets."""

    name = "starlette"
    title = "Starlette's own"
    skips = frozenset({cases.CLIENT, cases.SPANS, cases.WEBSOCKET, cases.CAPTURED, cases.FULL_QUEUE})
    middleware = "starlette.middleware.opentelemetry:OpenTelemetryMiddleware"
    excludes: ClassVar[dict[str, Any]] = {"excluded_urls": "/items/"}


class Contrib(OpenTelemetryPeer):
    """`opentelemetry-instrumentation-asgi`, and `-fastapi` where the application is FastAPI's."""

    name = "contrib"
    title = "contrib"
    skips = frozenset({cases.SPANS, cases.FULL_QUEUE})
    middleware = "opentelemetry.instrumentation.asgi:OpenTelemetryMiddleware"
    excludes: ClassVar[dict[str, Any]] = {"excluded_urls": "/items/"}
    captures: ClassVar[dict[str, Any]] = {"http_capture_headers_server_request": [traffic.CAPTURED_HEADER]}

    def server(self, case: Case) -> App:
        if not case.routes:
            return super().server(case)
        app = application(case)
        instrumentor = attribute("opentelemetry.instrumentation.fastapi:FastAPIInstrumentor")
        instrumentor.instrument_app(app, **self.options(case))
        return app

    def client(self, case: Case) -> Unit:
        import httpx

        module = import_module("opentelemetry.instrumentation.httpx")
        transport = traffic.mock_transport(case)
        if case.shape == cases.TRANSPORT:
            return traffic.calls_of_transport(module.AsyncOpenTelemetryTransport(transport, **self.providers(case)))
        client = httpx.AsyncClient(transport=transport)
        module.HTTPXClientInstrumentor.instrument_client(client, **self.providers(case))
        return traffic.calls_of_client(client)


class ContribQuiet(Contrib):
    """contrib without its spans per message."""

    name = "contrib-quiet"
    title = "contrib, exclude_spans"
    skips = frozenset({cases.CLIENT, cases.SPANS, cases.FULL_QUEUE})

    def options(self, case: Case) -> dict[str, Any]:
        return {**super().options(case), "exclude_spans": ["receive", "send"]}


class FastAPINative(OpenTelemetryPeer):
    """FastAPI's own telemetry, on by default from 0.165."""

    name = "fastapi"
    title = "FastAPI native"
    middleware = "fastapi.telemetry:"
    excludes: ClassVar[dict[str, Any]] = {"exclude": lambda scope: scope["path"].startswith("/items/")}

    def measures(self, case: Case) -> bool:
        return bool(case.routes)

    def server(self, case: Case) -> App:
        return application(case, self.options(case))


class FastAPIStripped(FastAPINative):
    """FastAPI's own telemetry, one span a request and nothing else."""

    name = "fastapi-stripped"
    title = "FastAPI native, stripped"

    def options(self, case: Case) -> dict[str, Any]:
        return {**super().options(case), "operation_spans": False, "metrics": False, "logs": False}


class SdkSpans(OpenTelemetryPeer):
    """The SDK's own `start_as_current_span`, in a block and as a decorator."""

    name = "sdk"
    title = "the SDK's own"
    skips = frozenset({cases.SERVER, cases.CLIENT})

    def spans(self, case: Case) -> Unit:
        from opentelemetry import trace

        source = trace.NoOpTracerProvider() if case.state == cases.NO_PROVIDER else provider()
        if case.shape == cases.CHILDREN:
            return _children(source)
        decorate = source.get_tracer("bench").start_as_current_span("plain_function")
        return traffic.ten_calls(decorate(traffic.plain_function))


BARE = Bare()
OURS = (AsgiTrace(), AsgiTraceConfigured())
OTHERS: tuple[Peer, ...] = (
    *(StarletteOwn(), Contrib(), ContribQuiet(), FastAPINative(), FastAPIStripped()),
    *(SdkSpans(), BARE),
)
