"""The process of one demo service: bind a port, say which, hear where the others are, serve until told to stop.

The parent talks over standard input (one line of settings; its end means stop) and listens on standard output, where
this module says its port and when it serves, one JSON object a line. A parent that dies closes the pipe, so no service
outlives it. Spans, log lines and metrics go to the collector by OTLP, as those of any service do.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from importlib import import_module
from typing import Any

import uvicorn

from .. import configure
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
    configure(service_name=service, endpoint=settings["collector"], metrics=True, logs=True)
    app = import_module(f"{__package__}.{service}").create(settings["upstream"])
    config = uvicorn.Config(app, lifespan="on", use_colors=False, timeout_graceful_shutdown=3)
    set_levels(service)
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


def set_levels(service: str) -> None:
    """The service's own lines and the server's access lines, but not what the server says about its start and stop."""
    for name, level in ((service, logging.INFO), ("uvicorn.access", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
