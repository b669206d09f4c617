"""What `asgi-trace view` does: listen on three ports, show what arrives, and sum up at the end."""

from __future__ import annotations

import os
import sys
import webbrowser
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread

from .child import Child
from .live import Live
from .options import Options, command_environment
from .receive.files import Saver, load
from .receive.grpc_receiver import GrpcReceiver
from .receive.intake import Intake
from .receive.ports import PortInUse
from .receive.store import Store
from .render.progress import Progress
from .render.screen import Screen
from .serve.background import HttpServer
from .serve.ingest import ingest_app
from .serve.page_server import PageServer
from .text import plural

FAILED, USAGE = 1, 2
_LAST_SPANS_COME_IN = 0.3


@dataclass
class Listening:
    """What listens: the endpoints, each None where its port is taken or not wanted."""

    grpc: str | None = None
    http: str | None = None
    page: str | None = None

    @property
    def anything(self) -> bool:
        """Is there any?"""
        return any((self.grpc, self.http, self.page))


def run(options: Options, stop: Event | None = None) -> int:
    """Receive and show until Ctrl-C, until the command ends, or until `stop` is set. Returns the exit code."""
    progress = Progress(sys.stderr, colour=options.colour)
    missing = next((path for path in options.files if not path.is_file()), None)
    if missing is not None:
        progress.warn(f"there is no file {missing}")
        return USAGE
    store = Store(max_traces=options.max_traces, max_bytes=options.max_memory)
    live = Live(store, Screen.of(sys.stdout, colour=options.colour), write_out, options.output, complain=progress.warn)
    with ExitStack() as stack:
        try:
            code = _run(options, stop or Event(), store, live, progress, stack)
        except KeyboardInterrupt:
            live.step(final=True)
            code = 0
        except OSError as exc:
            progress.warn(f"a file cannot be written: {exc}")
            return FAILED
    if code == FAILED and not live.has_run:
        return code
    write_out(live.summary())
    if options.output is not None:
        progress.done(f"the page: {options.output.resolve()}")
    return code


def _run(options: Options, stop: Event, store: Store, live: Live, progress: Progress, stack: ExitStack) -> int:
    """Listen, then show. Everything that is opened goes to `stack`."""
    watchers = []
    if options.save is not None:
        saver = Saver(options.save, progress.warn)
        stack.callback(saver.close)
        watchers.append(saver.add)
    intake = Intake(store, watchers=tuple(watchers), complain=progress.warn)
    listening = listen(options, store, intake, progress, stack)
    if not listening.anything:
        return FAILED
    for path in options.files:
        progress.done(f"{path}: {plural(load(path, Intake(store, complain=progress.warn), progress.warn), 'export')}")
    if options.open_browser and listening.page is not None:
        Thread(target=webbrowser.open, args=(listening.page,), daemon=True).start()
    if not options.command:
        progress.done("Ctrl-C ends it")
        live.run(stop)
        return 0
    return _run_command(options, listening, live, progress)


def _run_command(options: Options, listening: Listening, live: Live, progress: Progress) -> int:
    environment = command_environment(os.environ, http=listening.http, grpc=listening.grpc)
    try:
        child = Child(options.command, environment)
    except OSError as exc:
        progress.warn(f"{options.command[0]} cannot be started: {exc}")
        return 127
    try:
        live.run(child.ended, linger=_LAST_SPANS_COME_IN)
    except KeyboardInterrupt:
        child.stop()
        live.step(final=True)
    return child.exit_code()


def listen(options: Options, store: Store, intake: Intake, progress: Progress, stack: ExitStack) -> Listening:
    """Open the ports. One that is taken is said, and the others go on."""
    found = Listening()
    if options.grpc_port is not None:
        try:
            grpc = stack.enter_context(GrpcReceiver(intake, host=options.host, port=options.grpc_port))
            found.grpc = grpc.endpoint
            progress.done(f"OTLP/gRPC: {grpc.endpoint}")
        except PortInUse as exc:
            progress.warn(f"OTLP/gRPC: {exc} Choose another port with --grpc-port.")
    if options.http_port is not None:
        app = ingest_app(intake, host=options.host, allow_origin=options.allow_origin)
        try:
            http = stack.enter_context(HttpServer(app, host=options.host, port=options.http_port, name="otlp"))
            found.http = http.endpoint
            progress.done(f"OTLP/HTTP: {http.endpoint}")
        except PortInUse as exc:
            progress.warn(f"OTLP/HTTP: {exc} Choose another port with --http-port.")
    if options.page_port is not None:
        _serve_page(options, store, found, progress, stack)
    return found


def _serve_page(options: Options, store: Store, found: Listening, progress: Progress, stack: ExitStack) -> None:
    """Open the port of the page, and say its address, with the token where one is needed."""
    lines = [f"{name}  {line}" for name, line in (("OTLP/gRPC", found.grpc), ("OTLP/HTTP", found.http)) if line]
    port = options.page_port or 0
    try:
        page = stack.enter_context(PageServer(store, host=options.host, port=port, endpoints=tuple(lines)))
    except PortInUse as exc:
        progress.warn(f"the page: {exc} Choose another port with --page-port.")
        return
    found.page = page.url
    progress.done(f"the page: {page.url}")


def write_out(text: str) -> None:
    """Write to standard output at once; what its encoding cannot show is replaced."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
