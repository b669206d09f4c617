"""What `asgi-trace view` does: listen, show, and sum up after Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

from .live import Live
from .receive.receiver import PortInUse, Receiver
from .receive.store import Store
from .render.progress import Progress
from .render.screen import Screen


def run(*, host: str, port: int, output: Path | None, colour: bool, stop: Event | None = None) -> int:
    """Receive and show until Ctrl-C, or until `stop` is set. Returns the exit code."""
    progress = Progress(sys.stderr, colour=colour)
    store = Store()
    live = Live(store, Screen.of(sys.stdout, colour=colour), write_out, output)
    try:
        with Receiver(store, host=host, port=port) as receiver:
            progress.done(f"waiting for traces on {receiver.endpoint} (OTLP/gRPC); Ctrl-C ends it")
            try:
                live.run(stop or Event())
            except KeyboardInterrupt:
                live.step(final=True)
    except PortInUse as exc:
        progress.warn(f"{exc} Choose another port with --port.")
        return 1
    except OSError as exc:
        progress.warn(f"the page cannot be written: {exc}")
        return 1
    write_out(live.summary())
    if output is not None:
        progress.done(f"the page: {output.resolve()}")
    return 0


def write_out(text: str) -> None:
    """Write to standard output at once; what its encoding cannot show is replaced."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
