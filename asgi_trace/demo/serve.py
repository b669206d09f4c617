"""The process of one demo service: bind a port, say which, hear where the others are, serve until told to stop.

The parent talks over standard input (one line of settings; its end means stop) and listens on standard output, where
everything is one JSON object a line: this module's own messages and the service's log. A parent that dies closes the
pipe, so no service outlives it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from importlib import import_module
from typing import Any

import uvicorn

from .. import configure
from ..logging import uvicorn_log_config
from .process import CONTROL

_GRACE = 8.0


def main(service: str) -> None:
    """Serve `service`, a module of this package, until standard input ends."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    tell(port=listener.getsockname()[1])
    line = sys.stdin.readline()
    if not line:
        return
    settings = json.loads(line)
    configure(service_name=service, endpoint=settings["collector"], metrics=True)
    app = import_module(f"{__package__}.{service}").create(settings["upstream"])
    config = uvicorn.Config(app, lifespan="on", log_config=log_config(service), timeout_graceful_shutdown=3)
    server = Server(config)
    threading.Thread(target=stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


class Server(uvicorn.Server):
    """Tells the parent when requests are welcome."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            tell(ready=True)


def tell(**message: Any) -> None:
    """Say one thing to the parent."""
    sys.stdout.write(json.dumps({CONTROL: message}) + "\n")
    sys.stdout.flush()


def stop_at_end_of_input(server: uvicorn.Server) -> None:
    """Wait for the end of standard input, then for a graceful stop, but not for ever."""
    while sys.stdin.readline():
        pass
    server.should_exit = True
    timer = threading.Timer(_GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def log_config(service: str) -> dict[str, Any]:
    """Uvicorn's log and the service's own, as JSON with trace ids, on standard output."""
    config = uvicorn_log_config(json=True, service_name=service)
    for handler in config["handlers"].values():
        handler["stream"] = "ext://sys.stdout"
    config["loggers"][service] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    config["loggers"]["uvicorn.error"]["level"] = "WARNING"
    return config
