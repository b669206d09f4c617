"""One request to a collector over OTLP/HTTP, with urllib3.

urllib3 knows TLS, proxies and tunnels. What it leaves open is done here: a limit to the whole request (its timeouts
begin anew with every byte that arrives), a request that is cut off from outside, and a limit to what is read of an
answer.
"""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import warnings
from contextlib import suppress
from threading import Timer
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ProxyError, SSLError
from urllib3.util import Timeout, make_headers, parse_url

from .._version import VERSION
from .answer import TLS_HINT, Answer, Verdict, from_http, line
from .collector import Collector
from .signals import Signal

_MOST_OF_AN_ANSWER = 65_536
_GZIP_LEVEL = 1  # measured: a fifth of the time of level 6, and a tenth more bytes
_PORT_HINT = "is it running? OTLP/HTTP usually listens on port 4318, OTLP/gRPC on 4317"
_PROTOCOL_HINT = "does it speak OTLP/HTTP on this port? OTLP/gRPC usually listens on port 4317"


class HttpSender:
    """Sends requests of one signal. See `Sender`.

    The connection belongs to the process that first sends something, so a server may fork after `configure()`.
    """

    def __init__(self, collector: Collector, signal: Signal) -> None:
        self._collector = collector
        self._signal = signal
        self._url = collector.target + (f"?{collector.query}" if collector.query else "")
        self._headers = {
            "user-agent": f"asgi-trace/{VERSION}",
            "content-type": "application/x-protobuf",
            **{name: value.decode() if isinstance(value, bytes) else value for name, value in collector.headers},
        }
        if collector.gzip:
            self._headers["content-encoding"] = "gzip"
        self._manager: Any = None
        self._connection: Any = None
        self._pid = 0
        self._closed = False

    def send(self, payload: bytes, count: int, timeout: float) -> Answer:
        """Make one attempt, for at most `timeout` seconds."""
        late = False

        def cut() -> None:
            nonlocal late
            late = True
            self._cut()

        body = gzip.compress(payload, _GZIP_LEVEL) if self._collector.gzip else payload
        limit = _started(timeout, cut)
        try:
            return self._post(body, count, timeout)
        except (HTTPError, OSError) as exc:
            return _failure(exc, f"no answer within {timeout:.3g} seconds" if late else "")
        finally:
            if limit is not None:
                limit.cancel()

    def reconnect(self) -> None:
        """Open a new connection for the next attempt."""
        manager, self._manager = self._manager, None
        if manager is not None and self._pid == os.getpid():
            manager.clear()

    def close(self) -> None:
        """Cut off what is under way, and send nothing any more."""
        self._closed = True
        if self._pid == os.getpid():
            self._cut()

    def _post(self, body: bytes, count: int, timeout: float) -> Answer:
        if self._manager is None or self._pid != os.getpid():  # a connection does not survive a fork
            self._manager, self._pid = self._connected(), os.getpid()
        response = self._manager.urlopen(
            "POST",
            self._url,
            body=body,
            headers=self._headers,
            timeout=Timeout(timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        said = response.read(_MOST_OF_AN_ANSWER)
        if len(said) == _MOST_OF_AN_ANSWER:
            response.close()  # the rest would have to be read before the connection could be used again
        return from_http(response.status, response.headers, said, count, self._signal)

    def _connected(self) -> Any:
        manager = _manager(self._collector)
        pool = manager.connection_from_url(self._url)
        make = pool.ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> Any:
            if self._closed:
                raise ProtocolError("the sender is closed")
            self._connection = make(*args, **kwargs)
            return self._connection

        pool.ConnectionCls = connection  # where urllib3 lets a pool have another kind of connection
        return manager

    def _cut(self) -> None:
        connected = getattr(self._connection, "sock", None)
        if connected is not None:
            with suppress(OSError):  # ends the wait of the sending thread, for a handshake or for an answer
                connected.shutdown(socket.SHUT_RDWR)


def _started(seconds: float, cut: Any) -> Timer | None:
    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.name = "asgi-trace-timeout"
    try:
        timer.start()
    except RuntimeError:  # the interpreter is ending, and starts no thread any more; the stop has a limit of its own
        return None
    return timer


def _manager(collector: Collector) -> Any:
    settings: dict[str, Any] = {"num_pools": 1, "maxsize": 1, "ssl_context": collector.tls}
    if collector.proxy is None:
        return urllib3.PoolManager(**settings)
    if collector.proxy.lower().startswith("socks"):
        return _socks_manager(collector.proxy, settings)
    credentials = parse_url(collector.proxy).auth
    return urllib3.ProxyManager(
        collector.proxy,
        proxy_headers=make_headers(proxy_basic_auth=credentials) if credentials else None,
        **settings,
    )


def _socks_manager(proxy: str, settings: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3 warns of what is said here
            from urllib3.contrib.socks import SOCKSProxyManager
    except ImportError as exc:
        raise ImportError("a SOCKS proxy needs PySocks: pip install 'urllib3[socks]'") from exc
    return SOCKSProxyManager(proxy, **settings)


def _failure(exc: Exception, instead: str) -> Answer:
    reason, hint = instead or line(exc), ""
    if isinstance(exc, (SSLError, ssl.SSLError)):
        hint = TLS_HINT
    elif isinstance(exc, NewConnectionError):
        hint = _PORT_HINT
    elif isinstance(exc, ProtocolError) and not instead:
        hint = _PROTOCOL_HINT
    elif isinstance(exc, ProxyError):
        hint = "the proxy is named by HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, and NO_PROXY leaves it out"
    return Answer(
        Verdict.AGAIN,
        reason + (f" ({hint})" if hint else ""),
        stale=True,
        attributes={"error.type": type(exc).__qualname__},
    )
