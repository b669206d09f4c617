"""`TraceMiddleware`: one SERVER span per request, in any ASGI framework.

It dispatches on the scope's type and awaits; `_server.start` decides what is traced, and an object for each request is
told how it went. Messages pass unchanged (but for `response_header`), unknown scope types pass through, and whatever
fails in here leaves the request as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import get_meter_provider

from ._options.checks import application
from ._otel.context import attach, restore
from ._semconv.names import OTHER_ERROR
from ._server.coexistence import CLAIM, CLAIMS, FASTAPI, STARLETTE, release
from ._server.config import ServerConfig
from ._server.failed_request import remember_end, remember_failure
from ._server.flush import Flushable, flushable
from ._server.lifespan import serve_lifespan
from ._server.start import start
from ._types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

    from ._server.request import Request
    from ._server.websocket import WebSocket

__all__ = ["TraceMiddleware"]


class TraceMiddleware:
    """ASGI middleware that continues the caller's W3C trace and records each request as one SERVER span.

        app = TraceMiddleware(app, exclude="^/health$")  # around any ASGI application
        app.add_middleware(TraceMiddleware, exclude="^/health$")  # or in FastAPI and Starlette

    Name, attributes and status of the span are those of OpenTelemetry's semantic conventions for HTTP servers; it ends
    with the last byte of the response. Nothing that fails in here changes a request: it is logged once instead. Without
    a provider that records, requests pass through with almost no cost.

    Args:
        app: the ASGI application.
        tracer_provider, meter_provider, propagator: OpenTelemetry's objects to use; None is the global one, looked up
            when used.
        exclude: requests that leave no trace at all, spans made below them included: regular expressions searched in
            the path, with and without its root path, or a callable of the scope that returns True for them.
            `OTEL_PYTHON_EXCLUDED_URLS` and those of the frameworks, like `OTEL_PYTHON_FASTAPI_EXCLUDED_URLS`, count
            too.
        trust: which callers' traces are continued? True: all of them. False: none. Networks like "10.0.0.0/8": those of
            callers whose address is in one, which is the furthest one that `trusted_proxies` vouch for, else the
            socket's peer. Or a callable of the scope that decides. The request of any other caller starts a new trace,
            with a sampling decision of its own and without the caller's baggage; its span has a link to the caller.
        trusted_proxies: networks of the proxies whose `Forwarded` (RFC 7239) or `X-Forwarded-*` headers are believed
            for client, server and scheme; "unix" is a peer without an address, behind a unix socket.
        capture_request_headers, capture_response_headers: names of headers to record as attributes, or regular
            expressions for whole names like "x-.*", in any case.
            `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST` and
            `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE` count too.
        redact: names of query parameters and headers whose values are masked besides the standard ones, or a callable
            `(name, value) -> str` that is the whole rule.
        response_header: a header of the response that tells callers the trace id: "server-timing", "traceresponse" or
            any other name. None: there is none.
        on_request: a plain function `(span, scope)`, called at the start of each recorded span.
        on_response: a plain function `(span, scope, message)`, called with the message that starts the response.
        metrics: the instruments to record, by their names in the conventions; durations are in seconds, sizes in bytes.
            () is none.
        websocket: "connection": the span lasts until the WebSocket is closed; "handshake": until it is accepted or
            refused.

    Raises:
        TypeError, ValueError: an option has a value that makes no sense; the message says what to write instead.
    """

    __slots__ = ("_config", "_meter_provider", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        exclude: str | Iterable[str] | Callable[[Scope], bool] = (),
        trust: bool | str | Iterable[str] | Callable[[Scope], bool] = True,
        trusted_proxies: str | Iterable[str] = (),
        capture_request_headers: str | Iterable[str] = (),
        capture_response_headers: str | Iterable[str] = (),
        redact: str | Iterable[str] | Callable[[str, str], str] = (),
        response_header: str | None = None,
        on_request: Callable[[Span, Scope], object] | None = None,
        on_response: Callable[[Span, Scope, Message], object] | None = None,
        metrics: str | Iterable[str] = ("http.server.request.duration",),
        websocket: str = "connection",
    ) -> None:
        self.app: ASGIApp = application(app)
        self._meter_provider = meter_provider
        self._config = ServerConfig(
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            propagator=propagator,
            exclude=exclude,
            trust=trust,
            trusted_proxies=trusted_proxies,
            capture_request_headers=capture_request_headers,
            capture_response_headers=capture_response_headers,
            redact=redact,
            response_header=response_header,
            on_request=on_request,
            on_response=on_response,
            metrics=metrics,
            websocket=websocket,
        )

    # One coroutine for every scope, since each step that became a method would cost every request about 300
    # instructions (counted), and the order of these steps is what there is to see.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901
        """Serve one scope of any type. The application's exceptions are raised as they are."""
        started = kind = None
        try:
            kind = scope["type"]
            if kind == "http" or kind == "websocket":
                started = start(self._config, kind, scope, receive, send)
        except Exception as exc:
            self._config.guard.report("starting a request")
            await self._failed(scope, None, exc)
        if started is None:
            if kind == "lifespan":
                await serve_lifespan(self.app, scope, receive, send, self._providers, self._config.guard)
            else:
                await self.app(scope, receive, send)
            return
        context, receive, send, exchange = started
        token = attach(context)
        app = self.app
        try:
            await app(scope, receive, send)
        except BaseException as exc:
            await self._failed(scope, exchange, exc)
            if _restored(token):
                try:
                    remember_failure(context, exc)
                except Exception:
                    self._config.guard.report("remembering a failed request")
            raise
        answered = True
        try:
            try:  # release(), without the call
                if scope[CLAIM] is CLAIMS:
                    del scope[FASTAPI], scope[STARLETTE], scope[CLAIM]
                else:
                    release(scope)
            except KeyError:  # the application has removed some of the marks
                release(scope)
            if exchange is not None and not exchange.ended:
                if exchange.send_error is not None:
                    await self._look(exchange, None)
                answered = exchange.returned()
        except Exception:
            self._broken(exchange)
        try:
            restore(token)
            if not answered or self._config.remembers_ends:
                remember_end(context, not answered)
        except ValueError:  # what drives this coroutine has changed contexts under it: there is nothing to restore
            pass
        except Exception:
            self._config.guard.report("remembering a request")

    async def _failed(self, scope: Scope, exchange: Request | WebSocket | None, exc: BaseException) -> None:
        try:
            try:
                if exchange is not None:
                    await self._look(exchange, exc)
                    exchange.failed(exc)
                    exchange.send_error = None  # its traceback leads back to the exchange
            finally:
                release(scope)
        except Exception:
            self._broken(exchange)

    async def _look(self, exchange: Request | WebSocket, exc: BaseException | None) -> None:
        try:
            await exchange.look_for_client(exc)
        except Exception:
            self._config.guard.report("looking whether the client has left")

    def _broken(self, exchange: Request | WebSocket | None) -> None:
        """How it ended could not be told: it ends all the same, so that no span and no gauge stays open."""
        self._config.guard.report("ending a request")
        if exchange is not None and not exchange.ended:
            exchange.end(OTHER_ERROR)

    def _providers(self) -> list[Flushable]:
        """What holds telemetry that is not sent yet."""
        meters = self._meter_provider or get_meter_provider()
        return flushable((self._config.tracers.provider(), meters, get_logger_provider()))


def _restored(token: Token[Context]) -> bool:
    """Put the earlier context back. False: a coroutine that the garbage collector closes runs in one not its own."""
    try:
        restore(token)
    except ValueError:
        return False
    return True
