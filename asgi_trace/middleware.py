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
from ._server.coexistence import release
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

    Use it around an application, `app = TraceMiddleware(app)`, or as `app.add_middleware(TraceMiddleware)`.

    Args:
        app: the ASGI application.
        tracer_provider, meter_provider, propagator: None is OpenTelemetry's global one, looked up when used.
        exclude: requests that leave no trace at all, spans made below them included: regular expressions searched in
            the path, with and without its root path, or a callable of the scope. `OTEL_PYTHON_EXCLUDED_URLS` and those
            of the frameworks, like `OTEL_PYTHON_FASTAPI_EXCLUDED_URLS`, count too.
        trust: may a caller's trace be continued? True, False, networks like "10.0.0.0/8", or a callable of the scope.
            Networks judge the furthest address that `trusted_proxies` vouch for, else the socket's peer.
            An untrusted one is linked to: new trace, own sampling decision, no baggage.
        trusted_proxies: networks whose `Forwarded` or `X-Forwarded-*` headers count for client, server and scheme;
            "unix" is a peer without an address.
        capture_request_headers, capture_response_headers: names of headers to record as attributes, or patterns of
            whole names like "x-.*". The `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_*` variables count too.
        redact: query keys and header names to mask besides the standard ones, or a callable `(name, value) -> str`
            that is the whole rule.
        response_header: "server-timing", "traceresponse" or a name of your own that tells callers the trace id.
        on_request: hook `(span, scope)` at the start of a recorded span.
        on_response: hook `(span, scope, message)` at the start of its response.
        metrics: the instruments to record, by their names in the semantic conventions.
        websocket: "connection": the span lasts until the close; "handshake": until it is accepted or refused.

    Raises:
        ValueError, TypeError: an option that cannot be meant; the message says what to write.
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
        """Serve one scope."""
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
