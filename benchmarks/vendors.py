"""Peers with a tracer of their own, which change the process that they live in.

Each has an environment of its own (`environments`) and processes of its own: one where it is at work, and one that it
never touches for the bare application. None of them sends anything anywhere: the last step, which hands the data to a
transport, is replaced by one that drops it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, ClassVar

from . import cases, traffic
from .cases import Case
from .peers import Peer, attribute, current_span
from .traffic import App, Unit, application

_FRAMEWORKS = ("starlette", "fastapi", "httpx")
REQUIREMENTS = {
    "logfire": ("logfire[asgi,fastapi,httpx]", *_FRAMEWORKS),
    "sentry-sdk": ("sentry-sdk", *_FRAMEWORKS),
    "ddtrace": ("ddtrace", *_FRAMEWORKS),
    "elastic-apm": ("elastic-apm", *_FRAMEWORKS),
}
"""What each environment is made of; it is named after the vendor's package."""
_SKIPS = frozenset({cases.NO_PROVIDER, cases.TRANSPORT, *cases.EXTRAS})


class Logfire(Peer):
    """Logfire: contrib with hooks and a provider of its own."""

    name = environment = "logfire"
    title = "Logfire"
    skips = _SKIPS
    excludes: ClassVar[dict[str, Any]] = {"excluded_urls": "/items/"}

    def start(self, word: str) -> None:
        import_module("logfire").configure(
            send_to_logfire=False, console=False, metrics=False, inspect_arguments=False, distributed_tracing=True
        )

    def server(self, case: Case) -> App:
        logfire, app = import_module("logfire"), application(case)
        if case.routes:
            logfire.instrument_fastapi(app, **self.options(case))
            return app
        wrapped: App = logfire.instrument_asgi(app, **self.options(case))
        return wrapped

    def client(self, case: Case) -> Unit:
        import httpx

        client = httpx.AsyncClient(transport=traffic.mock_transport(case))
        import_module("logfire").instrument_httpx(client)
        return traffic.calls_of_client(client)

    def spans(self, case: Case) -> Unit:
        logfire = import_module("logfire")
        if case.shape == cases.CHILDREN:
            return traffic.ten_spans(lambda index: logfire.span("load order", order_id=index))
        return traffic.ten_calls(logfire.instrument("plain function", extract_args=False)(traffic.plain_function))

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        return current_span(case)


class Sentry(Peer):
    """sentry-sdk at `traces_sample_rate=1.0`; its own integration where the framework has one."""

    name = "sentry"
    environment = "sentry-sdk"
    title = "Sentry"
    skips = _SKIPS | {cases.EXCLUDED}
    middleware = "sentry_sdk.integrations.asgi:SentryAsgiMiddleware"

    def header(self, trace_id: str, span_id: str, sampled: bool) -> traffic.Header:
        """The header that Sentry's callers send."""
        return b"sentry-trace", f"{trace_id}-{span_id}-{int(sampled)}".encode()

    def start(self, word: str) -> None:
        sentry_sdk: Any = import_module("sentry_sdk")

        class NoTransport(sentry_sdk.transport.Transport):  # type: ignore[misc]
            def capture_envelope(self, envelope: Any) -> None:
                pass

        sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=NoTransport, traces_sample_rate=1.0)

    def server(self, case: Case) -> App:
        if case.shape == cases.STARLETTE or case.routes:
            return application(case)
        return super().server(case)

    def spans(self, case: Case) -> Unit:
        sentry_sdk = import_module("sentry_sdk")
        if case.shape == cases.CHILDREN:
            return traffic.ten_spans(lambda index: sentry_sdk.start_span(op="function", name="load order"))
        return traffic.ten_calls(sentry_sdk.trace(traffic.plain_function))

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        if case.side == cases.SERVER:
            return nullcontext()
        transaction: AbstractContextManager[object] = import_module("sentry_sdk").start_transaction(
            name="parent", op="http.server", sampled=case.state == cases.SAMPLED
        )
        return transaction


class Datadog(Peer):
    """ddtrace. It makes spans below an unsampled parent, too."""

    name = title = environment = "ddtrace"
    skips = _SKIPS | {cases.EXCLUDED}
    middleware = "ddtrace.contrib.asgi:TraceMiddleware"
    variables: ClassVar[dict[str, str]] = {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
        "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
        "DD_AGENTLESS_LOG_SUBMISSION_ENABLED": "false",
        "DD_DYNAMIC_INSTRUMENTATION_ENABLED": "false",
    }

    def start(self, word: str) -> None:
        attribute("ddtrace.trace:tracer")._span_aggregator.writer = _NoWriter()
        import_module("ddtrace").patch(httpx=True)

    def spans(self, case: Case) -> Unit:
        tracer = attribute("ddtrace.trace:tracer")
        if case.shape == cases.CHILDREN:
            return traffic.ten_spans(lambda index: tracer.trace("load order"))
        return traffic.ten_calls(tracer.wrap("plain_function")(traffic.plain_function))

    @contextmanager
    def surroundings(self, case: Case) -> Iterator[None]:
        trace = import_module("ddtrace.trace")
        parent = None
        if case.side != cases.SERVER:
            parent = trace.Context(trace_id=42, span_id=43, sampling_priority=int(case.state == cases.SAMPLED))
        trace.tracer.context_provider.activate(parent)
        yield
        trace.tracer.context_provider.activate(None)


class _NoWriter:
    """The writer of ddtrace that drops finished traces."""

    def write(self, spans: Any = None) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class Elastic(Peer):
    """elastic-apm: its ASGI middleware, and its own one for Starlette and FastAPI."""

    name = environment = "elastic-apm"
    title = "Elastic APM"
    skips = _SKIPS | {cases.CLIENT, cases.SPANS, cases.WEBSOCKET}
    _clients: ClassVar[dict[bool, Any]] = {}

    def _client(self, excluded: bool) -> Any:
        elasticapm = import_module("elasticapm")
        if excluded not in self._clients:
            elasticapm.base.CLIENT_SINGLETON = None  # otherwise the second client logs a warning
            self._clients[excluded] = elasticapm.Client(
                service_name="bench",
                transport_class="benchmarks.vendors.no_elastic_transport",
                central_config=False,
                cloud_provider="none",
                metrics_interval="0s",
                instrument=False,
                transaction_ignore_urls=["*/items/*"] if excluded else [],
            )
        return self._clients[excluded]

    def server(self, case: Case) -> App:
        client, app = self._client(case.state == cases.EXCLUDED), application(case)
        if case.shape == cases.STARLETTE or case.routes:
            app.add_middleware(attribute("elasticapm.contrib.starlette:ElasticAPM"), client=client)  # type: ignore[attr-defined]
            return app
        middleware = attribute("elasticapm.contrib.asgi:ASGITracingMiddleware")(app)
        middleware.client = client
        wrapped: App = middleware
        return wrapped


def no_elastic_transport(**options: Any) -> Any:
    """A transport of elastic-apm that drops what it is given."""
    base: Any = import_module("elasticapm.transport.base")

    class NoTransport(base.Transport):  # type: ignore[misc]
        def queue(self, event_type: Any, data: Any, flush: bool = False) -> None:
            pass

        def start_thread(self, pid: int | None = None) -> None:
            pass

    options.pop("url", None)
    return NoTransport(**options)


VENDORS = (Logfire(), Sentry(), Datadog(), Elastic())
