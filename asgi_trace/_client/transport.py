"""The transports that httpx and httpx2 have in common, sync and async: they await, `start` and `call` decide.

A library's own module fills in its classes. Bytes, exceptions and the response object pass through as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from .call import end_dropped
from .config import ClientConfig
from .library import Library, check_transport
from .proxies import environment_proxies
from .start import start

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider
    from typing_extensions import Self

TransportT = TypeVar("TransportT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class TracedTransport(Generic[TransportT, RequestT, ResponseT]):
    """A transport around another one: options, and how a client gets it."""

    _library: ClassVar[Library]
    _no_proxy_wildcards: ClassVar[bool] = False

    def __init__(
        self,
        transport: TransportT | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        propagate_to: str | Iterable[str] | Callable[[Any], bool] | None = None,
        redact: str | Iterable[str] | Callable[[str, str], str] = (),
        capture_request_headers: str | Iterable[str] = (),
        capture_response_headers: str | Iterable[str] = (),
        on_request: Callable[[Span, RequestT], object] | None = None,
        on_response: Callable[[Span, RequestT, ResponseT], object] | None = None,
        exclude: str | Iterable[str] | Callable[[RequestT], bool] = (),
        metrics: str | Iterable[str] = ("http.client.request.duration",),
    ) -> None:
        """`transport` is the wrapped one, which does the work: any of the library's or of your own.

        None builds the library's default. Everything else is keyword-only.

        Args:
            tracer_provider, meter_provider, propagator: OpenTelemetry's objects to use; None is the global one, looked
                up when used.
            propagate_to: where trace context and baggage may be sent: host patterns (`"*.internal"`,
                `"api.test:8443"`), or a callable of the URL that returns True for those. None is everywhere. A request
                to another place has its span all the same.
            redact: names of query parameters and headers whose values are masked besides the standard ones, or a
                callable `(name, value) -> str` that is the whole rule.
            capture_request_headers, capture_response_headers: names of headers to record as attributes, or regular
                expressions for whole names like "x-.*".
            on_request: a plain function `(span, request)`, called before the send of each recorded span's request. It
                may add headers.
            on_response: a plain function `(span, request, response)`, called when the response's headers have arrived.
            exclude: requests without a span and a metric: regular expressions searched in the URL, or a callable of
                the request that returns True for them. The context of the caller is sent all the same.
            metrics: the instruments to record, by their names in the conventions; durations are in seconds, sizes in
                bytes. () is none.

        Raises:
            TypeError, ValueError: an option has a value that makes no sense; the message says what to write instead.
        """
        library = self._library
        self._config = ClientConfig(
            library,
            transport,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            propagator=propagator,
            propagate_to=propagate_to,
            redact=redact,
            capture_request_headers=capture_request_headers,
            capture_response_headers=capture_response_headers,
            on_request=on_request,
            on_response=on_response,
            exclude=exclude,
            metrics=metrics,
        )
        self._transport: Any = library.network() if transport is None else transport

    @classmethod
    def for_client(
        cls,
        *,
        transport: TransportT | None = None,
        mounts: Mapping[str, TransportT | None] | None = None,
        proxy: Any = None,
        trust_env: bool = True,
        verify: Any = True,
        cert: Any = None,
        http1: bool = True,
        http2: bool = False,
        limits: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The arguments `transport` and `mounts` of a client that is traced wherever a request goes.

            client = Client(**TraceTransport.for_client(http2=True, propagate_to="*.internal"))

        A client that is given a transport no longer reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. Here they
        count, as in a client that builds its own transport. `transport` is the wrapped one, as of this class.
        `mounts`, `proxy`, `trust_env`, `verify`, `cert`, `http1`, `http2` and `limits` mean what they mean to the
        client. `options` are those of this class, and hold for all of its transports. A transport that is traced
        already and a mount that is None stay as they are.

        Raises:
            TypeError, ValueError: as this class does.
        """
        settings = {"verify": verify, "cert": cert, "trust_env": trust_env, "http1": http1, "http2": http2}
        if limits is not None:
            settings["limits"] = limits

        def traced(inner: TransportT) -> TransportT:
            check_transport(cls._library, inner)
            return inner if isinstance(inner, TracedTransport) else cast("TransportT", cls(inner, **options))

        proxies: dict[str, Any] = environment_proxies(cls._no_proxy_wildcards) if trust_env else {}
        if proxy is not None:
            proxies = {"all://": proxy}
        routes: dict[str, TransportT | None] = {
            pattern: None if via is None else traced(cls._library.network(proxy=via, **settings))
            for pattern, via in proxies.items()
        }
        for pattern, mount in (mounts or {}).items():
            routes[pattern] = None if mount is None else traced(mount)
        main = cls._library.network(**settings) if transport is None else transport
        return {"transport": traced(main), "mounts": routes}


class SyncTracedTransport(TracedTransport[TransportT, RequestT, ResponseT]):
    """The transport of a `Client`."""

    def handle_request(self, request: RequestT) -> ResponseT:
        """Send `request` through the wrapped transport, with our context in its headers."""
        response: ResponseT
        call = start(self._config, request)
        if call is None:
            response = self._transport.handle_request(request)
            return response
        try:
            response = self._transport.handle_request(call.request)
        except BaseException as exc:
            call.failed(exc)
            raise
        call.started(response)
        return response

    def __enter__(self) -> Self:
        """Enter the wrapped transport."""
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the wrapped transport."""
        self._transport.__exit__(exc_type, exc_value, traceback)
        end_dropped()

    def close(self) -> None:
        """Close the wrapped transport."""
        self._transport.close()
        end_dropped()


class AsyncTracedTransport(TracedTransport[TransportT, RequestT, ResponseT]):
    """The transport of an `AsyncClient`."""

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        """Send `request` through the wrapped transport, with our context in its headers."""
        response: ResponseT
        call = start(self._config, request)
        if call is None:
            response = await self._transport.handle_async_request(request)
            return response
        try:
            response = await self._transport.handle_async_request(call.request)
        except BaseException as exc:
            call.failed(exc)
            raise
        call.started(response)
        return response

    async def __aenter__(self) -> Self:
        """Enter the wrapped transport."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the wrapped transport."""
        await self._transport.__aexit__(exc_type, exc_value, traceback)
        end_dropped()

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._transport.aclose()
        end_dropped()
