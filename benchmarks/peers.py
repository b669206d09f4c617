"""How each peer is put around an application or a client.

Peers on OpenTelemetry get one SDK provider with `ParentBased(ALWAYS_ON)`, a span processor that does nothing, no meter
provider and the stable conventions; nothing is set as a global. Everybody runs with their defaults except where the
name says otherwise, and asgi-trace with all of its features on. What belongs to a vendor is in `vendors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from . import cases
from .cases import Case
from .results import CONFIGURED
from .traffic import (
    App,
    Requests,
    Runner,
    TraceHeader,
    Unit,
    application,
    calls_of_client,
    calls_of_transport,
    mock_transport,
    traceparent,
)

MAIN = "main"
ON, OFF, UNTOUCHED = "on", "off", "bare"
"""What a process holds: peers at work, peers that are installed but not set up, or nothing but bare applications."""


class Peer:
    """Who is measured: wraps an application or a client, and says which rows make sense."""

    name: ClassVar[str]
    title: ClassVar[str]
    environment: ClassVar[str] = MAIN
    packages: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()
    """Modules of this peer that have to be importable."""
    header: ClassVar[TraceHeader] = staticmethod(traceparent)
    variables: ClassVar[dict[str, str]] = {}
    """Environment variables of its own process."""

    def measures(self, case: Case) -> bool:
        """Can this peer do what the row asks for?"""
        raise NotImplementedError

    def start(self, mode: str) -> None:
        """Set up a process of its own, before any framework is imported there."""

    def server(self, case: Case) -> App:
        """The application of that row, with the peer around it."""
        raise NotImplementedError

    def client(self, case: Case) -> Unit:
        """The client calls of that row."""
        raise NotImplementedError

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        """What every unit of that row runs inside."""
        return nullcontext()

    def runner(self, case: Case) -> Runner:
        """Everything put together, ready to run."""
        if case.side == "client":
            return Runner(self.client(case), lambda: self.surroundings(case), ahead=case.shape == cases.TRANSPORT)
        return Runner(Requests(case, self.server(case), self.header), lambda: self.surroundings(case))


@cache
def provider(kind: Any = None) -> Any:
    """The provider of this process: everything sampled unless the caller says no, and nothing exported."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

    made = (kind or TracerProvider)(sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    made.add_span_processor(SpanProcessor())
    return made


def _provider_of(case: Case) -> dict[str, Any]:
    return {} if case.state == cases.NO_PROVIDER else {"tracer_provider": provider()}


def around(app: App, middleware: Callable[..., App], **options: Any) -> App:
    """The middleware as its documentation installs it: `add_middleware` where there is such a thing."""
    add = getattr(app, "add_middleware", None)
    if add is None:
        return middleware(app, **options)
    add(middleware, **options)
    return app


class Bare(Peer):
    """Nothing around it: what everybody's overhead is counted from."""

    name = "bare"
    title = "no tracing"

    def measures(self, case: Case) -> bool:
        return True

    def server(self, case: Case) -> App:
        return application(case)

    def client(self, case: Case) -> Unit:
        return _plain_client(case)


def _plain_client(case: Case) -> Unit:
    import httpx

    transport = mock_transport(case)
    if case.shape == cases.TRANSPORT:
        return calls_of_transport(transport)
    return calls_of_client(httpx.AsyncClient(transport=transport))


class _OpenTelemetryPeer(Peer):
    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        return current_span(case) if case.side == "client" else nullcontext()


@contextmanager
def current_span(case: Case) -> Iterator[None]:
    """The span of the request that the call is made for: sampled, unsampled, or none at all."""
    if case.state == cases.NO_PROVIDER:
        yield
        return
    from opentelemetry import context, trace

    flags = trace.TraceFlags.SAMPLED if case.state == cases.SAMPLED else trace.TraceFlags.DEFAULT
    parent = trace.SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, False, trace.TraceFlags(flags))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    yield
    context.detach(token)


class AsgiTrace(_OpenTelemetryPeer):
    """asgi-trace with every feature at its default: trust, redaction, route, guard."""

    name = "asgi-trace"
    title = "asgi-trace"
    modules = ("asgi_trace.middleware",)

    def measures(self, case: Case) -> bool:
        return True

    def provider(self) -> Any:
        """The SDK's own."""
        return provider()

    def _options(self, case: Case) -> dict[str, Any]:
        return {} if case.state == cases.NO_PROVIDER else {"tracer_provider": self.provider()}

    def server(self, case: Case) -> App:
        middleware = import_module("asgi_trace").TraceMiddleware
        exclude = {"exclude": "^/items/"} if case.state == cases.EXCLUDED else {}
        return around(application(case), middleware, **self._options(case), **exclude)

    def client(self, case: Case) -> Unit:
        import httpx

        make = import_module("asgi_trace.httpx").AsyncTraceTransport
        transport = make(mock_transport(case), **self._options(case))
        if case.shape == cases.TRANSPORT:
            return calls_of_transport(transport)
        return calls_of_client(httpx.AsyncClient(transport=transport))


class AsgiTraceConfigured(AsgiTrace):
    """The same on the provider that `configure()` makes: faster drop-ins for the SDK's tracer and spans."""

    name = CONFIGURED
    title = "asgi-trace, configure()"
    modules = ("asgi_trace._sdk",)

    def measures(self, case: Case) -> bool:
        return case.state not in (cases.NO_PROVIDER, cases.EXCLUDED)  # there no span is asked for

    def provider(self) -> Any:
        return provider(import_module("asgi_trace._sdk").TracerProvider)


class StarletteOwn(_OpenTelemetryPeer):
    """`starlette.middleware.opentelemetry`."""

    name = "starlette"
    title = "Starlette's own"
    packages = ("starlette",)
    modules = ("starlette.middleware.opentelemetry",)

    def measures(self, case: Case) -> bool:
        return case.side == "server" and case.shape != cases.WEBSOCKET  # passes WebSockets through untraced

    def server(self, case: Case) -> App:
        middleware = import_module("starlette.middleware.opentelemetry").OpenTelemetryMiddleware
        exclude = {"excluded_urls": "/items/"} if case.state == cases.EXCLUDED else {}
        return around(application(case), middleware, **_provider_of(case), **exclude)


class Contrib(_OpenTelemetryPeer):
    """`opentelemetry-instrumentation-asgi`, and `-fastapi` where the application is FastAPI's."""

    name = "contrib"
    title = "contrib"
    packages = (
        "opentelemetry-instrumentation-asgi",
        "opentelemetry-instrumentation-fastapi",
        "opentelemetry-instrumentation-httpx",
    )
    modules = ("opentelemetry.instrumentation.asgi",)
    options: ClassVar[dict[str, Any]] = {}

    def measures(self, case: Case) -> bool:
        return True

    def server(self, case: Case) -> App:
        options = {**_provider_of(case), **self.options}
        if case.state == cases.EXCLUDED:
            options["excluded_urls"] = "/items/"
        app = application(case)
        if case.routes:
            instrumentor = import_module("opentelemetry.instrumentation.fastapi").FastAPIInstrumentor
            instrumentor.instrument_app(app, **options)
            return app
        return around(app, import_module("opentelemetry.instrumentation.asgi").OpenTelemetryMiddleware, **options)

    def client(self, case: Case) -> Unit:
        import httpx

        module = import_module("opentelemetry.instrumentation.httpx")
        transport = mock_transport(case)
        if case.shape == cases.TRANSPORT:
            return calls_of_transport(module.AsyncOpenTelemetryTransport(transport, **_provider_of(case)))
        client = httpx.AsyncClient(transport=transport)
        module.HTTPXClientInstrumentor.instrument_client(client, **_provider_of(case))
        return calls_of_client(client)


class ContribQuiet(Contrib):
    """contrib without its spans per message."""

    name = "contrib-quiet"
    title = "contrib, exclude_spans"
    options: ClassVar[dict[str, Any]] = {"exclude_spans": ["receive", "send"]}

    def measures(self, case: Case) -> bool:
        return case.side == "server"


class FastAPINative(_OpenTelemetryPeer):
    """FastAPI's own telemetry, on by default from 0.165."""

    name = "fastapi"
    title = "FastAPI native"
    packages = ("fastapi",)
    modules = ("fastapi.telemetry",)
    options: ClassVar[dict[str, Any]] = {}

    def measures(self, case: Case) -> bool:
        return bool(case.routes)

    def server(self, case: Case) -> App:
        telemetry = {**_provider_of(case), **self.options}
        if case.state == cases.EXCLUDED:
            telemetry["exclude"] = lambda scope: scope["path"].startswith("/items/")
        return application(case, telemetry=telemetry)


class FastAPIStripped(FastAPINative):
    """FastAPI's own telemetry, one span a request and nothing else."""

    name = "fastapi-stripped"
    title = "FastAPI native, stripped"
    options: ClassVar[dict[str, Any]] = {"operation_spans": False, "metrics": False, "logs": False}


BARE = Bare()
OURS = AsgiTrace()


def mode_for(peer: Peer, case: Case) -> str:
    """Which kind of process measures that peer in that row."""
    if peer.environment == MAIN:
        return ON
    return OFF if case.state == cases.NO_PROVIDER else ON
