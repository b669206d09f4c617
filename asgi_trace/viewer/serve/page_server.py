"""The page, listening: the application behind its gate, and the address to open."""

from __future__ import annotations

from types import TracebackType

from ..catalogue import Catalogue
from ..receive.ports import bracketed
from ..receive.store import Store
from .background import HttpServer
from .page import PageApp
from .security import Gate

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to open where every address is listened on


class PageServer:
    """Shows `store` on `host:port` (0 = any free port) until it is closed. A context manager.

    `endpoints` are lines that tell where traces can be sent. Raises `PortInUse` when the address cannot be bound.
    """

    def __init__(self, store: Store, *, host: str, port: int, endpoints: tuple[str, ...] = ()) -> None:
        self._page = PageApp(Catalogue(store), endpoints)
        self.gate: Gate = Gate(self._page.app, host=host)
        self._server = HttpServer(self.gate, host=host, port=port, name="page")
        self.port: int = self._server.port
        self.origin: str = f"http://{bracketed(_ANY_ADDRESS.get(host, host))}:{self.port}"
        self.url: str = f"{self.origin}/?token={self.gate.token}" if self.gate.token else f"{self.origin}/"

    def close(self) -> None:
        """End the event streams and stop listening. Idempotent."""
        self._page.close()
        self._server.close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
