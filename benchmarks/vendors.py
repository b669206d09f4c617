"""Peers that bring a tracer of their own and change the process they live in.

Each has an environment of its own (`environments`) and processes of its own: one where it is at work, one where it is
installed but not set up, one that it never touches, for the bare application. None of them sends anything anywhere:
the last step, handing data to a transport, is replaced by nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, ClassVar

from . import cases
from .cases import Case
from .peers import OFF, ON, UNTOUCHED, Peer, around, current_span
from .traffic import App, Unit, application, calls_of_client, mock_transport

_FRAMEWORKS = ("starlette", "fastapi", "httpx")
REQUIREMENTS = {
    "logfire": ("logfire[asgi,fastapi,httpx]", *_FRAMEWORKS),
    "sentry": ("sentry-sdk", *_FRAMEWORKS),
    "ddtrace": ("ddtrace", *_FRAMEWORKS),
    "elastic-apm": ("elastic-apm", *_FRAMEWORKS),
}
"""What each environment is made of."""


def _client(case: Case) -> Any:
    import httpx

    return httpx.AsyncClient(transport=mock_transport(case))


class Logfire(Peer):
    """Logfire: contrib with hooks and a provider of its own."""

    name = "logfire"
    title = "Logfire"
    environment = "logfire"
    packages = ("logfire", "opentelemetry-sdk", "opentelemetry-instrumentation-asgi")

    def measures(self, case: Case) -> bool:
        return case.state != cases.NO_PROVIDER and case.shape != cases.TRANSPORT

    def start(self, mode: str) -> None:
        if mode == ON:
            logfire = import_module("logfire")
            logfire.configure(
                send_to_logfire=False, console=False, metrics=False, inspect_arguments=False, distributed_tracing=True
            )

    def server(self, case: Case) -> App:
        logfire = import_module("logfire")
        options = {"excluded_urls": "/items/"} if case.state == cases.EXCLUDED else {}
        app = application(case)
        if case.routes:
            logfire.instrument_fastapi(app, **options)
            return app
        wrapped: App = logfire.instrument_asgi(app, **options)
        return wrapped

    def client(self, case: Case) -> Unit:
        client = _client(case)
        import_module("logfire").instrument_httpx(client)
        return calls_of_client(client)

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        return current_span(case) if case.side == "client" else nullcontext()


class Sentry(Peer):
    """sentry-sdk at `traces_sample_rate=1.0`; its own integration where the framework has one."""

    name = "sentry"
    title = "Sentry"
    environment = "sentry"
    packages = ("sentry-sdk",)

    @staticmethod
    def header(trace_id: str, span_id: str, sampled: bool) -> tuple[bytes, bytes]:
        """The header that Sentry's callers send."""
        return b"sentry-trace", f"{trace_id}-{span_id}-{int(sampled)}".encode()

    def measures(self, case: Case) -> bool:
        if case.state == cases.NO_PROVIDER:
            return case.side == "server" and case.shape not in (cases.STARLETTE, *cases.ROUTES)
        return case.state != cases.EXCLUDED and case.shape != cases.TRANSPORT

    def start(self, mode: str) -> None:
        if mode == ON:
            sentry_sdk = import_module("sentry_sdk")
            sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=_no_transport(sentry_sdk), traces_sample_rate=1.0)

    def server(self, case: Case) -> App:
        app = application(case)
        if case.shape == cases.STARLETTE or case.routes:
            return app
        middleware = import_module("sentry_sdk.integrations.asgi").SentryAsgiMiddleware
        wrapped: App = middleware(app)
        return wrapped

    def client(self, case: Case) -> Unit:
        return calls_of_client(_client(case))

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        if case.side == "server":
            return nullcontext()
        transaction: AbstractContextManager[object] = import_module("sentry_sdk").start_transaction(
            name="parent", op="http.server", sampled=case.state == cases.SAMPLED
        )
        return transaction


def _no_transport(sentry_sdk: Any) -> Any:
    class NoTransport(sentry_sdk.transport.Transport):  # type: ignore[misc]
        def capture_envelope(self, envelope: Any) -> None:
            pass

    return NoTransport


class Datadog(Peer):
    """ddtrace; an unsampled parent does not stop it from making spans."""

    name = "ddtrace"
    title = "ddtrace"
    environment = "ddtrace"
    packages = ("ddtrace",)
    variables: ClassVar[dict[str, str]] = {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
        "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
        "DD_AGENTLESS_LOG_SUBMISSION_ENABLED": "false",
        "DD_DYNAMIC_INSTRUMENTATION_ENABLED": "false",
    }

    def measures(self, case: Case) -> bool:
        return case.state != cases.EXCLUDED and case.shape != cases.TRANSPORT

    def start(self, mode: str) -> None:
        if mode == UNTOUCHED:
            return
        if mode == OFF:
            os.environ["DD_TRACE_ENABLED"] = "false"
        tracer = import_module("ddtrace.trace").tracer
        tracer._span_aggregator.writer = _NoWriter()
        import_module("ddtrace").patch(httpx=True)

    def server(self, case: Case) -> App:
        return around(application(case), import_module("ddtrace.contrib.asgi").TraceMiddleware)

    def client(self, case: Case) -> Unit:
        return calls_of_client(_client(case))

    def surroundings(self, case: Case) -> AbstractContextManager[object]:
        return _datadog_parent(case)


@contextmanager
def _datadog_parent(case: Case) -> Iterator[None]:
    trace = import_module("ddtrace.trace")
    trace.tracer.context_provider.activate(None)
    if case.side == "server" or case.state == cases.NO_PROVIDER:
        yield
        return
    priority = 1 if case.state == cases.SAMPLED else 0
    trace.tracer.context_provider.activate(trace.Context(trace_id=42, span_id=43, sampling_priority=priority))
    yield
    trace.tracer.context_provider.activate(None)


class _NoWriter:
    """Where ddtrace's finished traces end: nowhere."""

    def write(self, spans: Any = None) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class Elastic(Peer):
    """elastic-apm: its ASGI middleware, and its own one for Starlette and FastAPI."""

    name = "elastic-apm"
    title = "Elastic APM"
    environment = "elastic-apm"
    packages = ("elastic-apm",)

    def measures(self, case: Case) -> bool:
        return case.side == "server" and case.state != cases.NO_PROVIDER and case.shape != cases.WEBSOCKET

    def start(self, mode: str) -> None:
        if mode == ON:
            self._clients: dict[bool, Any] = {}

    def _apm(self, excluded: bool) -> Any:
        elasticapm = import_module("elasticapm")
        if excluded not in self._clients:
            elasticapm.base.CLIENT_SINGLETON = None  # a second client, without the warning about it
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
        client = self._apm(case.state == cases.EXCLUDED)
        app = application(case)
        if case.shape == cases.STARLETTE or case.routes:
            return around(app, import_module("elasticapm.contrib.starlette").ElasticAPM, client=client)
        middleware = import_module("elasticapm.contrib.asgi").ASGITracingMiddleware(app)
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

        def send(self, data: Any, **options: Any) -> None:
            pass

    options.pop("url", None)
    return NoTransport(**options)


VENDORS = (Logfire(), Sentry(), Datadog(), Elastic())
