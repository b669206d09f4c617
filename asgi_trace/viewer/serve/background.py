"""An ASGI application behind uvicorn in a thread of its own, so that no port waits for another one's work."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import uvicorn

from ..receive.ports import bracketed, listeners

_STARTS_IN = 20.0
_GRACE = 2


class HttpServer:
    """Serves `app` on `host:port` (0 = any free port) until it is closed. A context manager.

    Raises `PortInUse` when the address cannot be bound.
    """

    def __init__(self, app: Any, *, host: str, port: int, name: str) -> None:
        self._sockets = listeners(host, port)
        self.port: int = self._sockets[0].getsockname()[1]
        self.endpoint: str = f"http://{bracketed(host)}:{self.port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE,
            h11_max_incomplete_event_size=64 * 1024,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": self._sockets}, name=f"asgi-trace-{name}", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _STARTS_IN
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """Answer what is under way (at most 2 seconds) and stop listening. Idempotent."""
        self._server.should_exit = True
        self._thread.join(_GRACE + 3)
        for listener in self._sockets:
            listener.close()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
