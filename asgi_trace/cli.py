"""`asgi-trace demo` and `asgi-trace view`: arguments, exit codes, and who prints what where.

Results go to standard output, progress and complaints to standard error. Exit codes: 0, 1 when something failed, 2 for
wrong arguments or a missing extra, 130 after Ctrl-C during work. What the commands need is imported when they run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ._version import VERSION

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_NEEDS = {
    "demo": ("opentelemetry.sdk", "opentelemetry.proto", "grpc", "httpx", "fastapi", "rich", "starlette", "uvicorn"),
    "view": ("opentelemetry.proto", "grpc", "rich", "starlette", "uvicorn"),
}
_EXTRAS = {"demo": "demo", "view": "view"}
DEFAULT_PAGE = "asgi-trace-demo.html"
OTLP_PORT = 4317


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="asgi-trace", description="See how a request crosses your services, without Docker or an account."
    )
    top.add_argument("--version", action="version", version=f"asgi-trace {VERSION}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="start three services, send them requests, show each as one timeline",
        description="Start three services (FastAPI, Starlette, plain ASGI) on free loopback ports, send them a few "
        "requests that go well or wrong, and show each as one timeline in the terminal and in one HTML file. With "
        "OTEL_EXPORTER_OTLP_ENDPOINT set, the spans go to that collector (OTLP/gRPC) as well.",
    )
    demo.add_argument(
        "--output", type=Path, default=Path(DEFAULT_PAGE), metavar="PATH", help="the HTML file (default: %(default)s)"
    )
    demo.add_argument("--picture", type=Path, metavar="PATH", help="draw the failed request as an SVG picture, too")
    demo.add_argument("--json", action="store_true", help="print the traces as JSON instead")
    demo.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR does the same)")
    demo.add_argument(
        "--keep-running", action="store_true", help="leave the services up until Ctrl-C, and show what you send them"
    )

    view = commands.add_parser(
        "view",
        help="receive traces of your own services and show them",
        description="Listen for OTLP over gRPC, where every OpenTelemetry exporter sends by default, and show each "
        "trace as a timeline when it is complete. Ctrl-C ends it with a summary.",
    )
    view.add_argument(
        "--port", type=_port, default=OTLP_PORT, metavar="PORT", help="where to listen (default: %(default)s; 0: any)"
    )
    view.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    view.add_argument("--output", type=Path, metavar="PATH", help="keep an HTML file of all traces up to date")
    view.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR does the same)")
    return top


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. `arguments` are those of the process unless given."""
    options = parser().parse_args(arguments)
    missing = next((name for name in _NEEDS[options.command] if not _is_there(name)), None)
    if missing is not None:
        extra = _EXTRAS[options.command]
        complain(f"asgi-trace {options.command} needs {missing}: pip install 'asgi-trace[{extra}]'")
        return USAGE
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said here, in one line
    command = _demo if options.command == "demo" else _view
    try:
        with _sigterm_like_ctrl_c():
            return command(options)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads; exit must not fail to flush
        return FAILED


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Stop in order, services first, when the process is told to terminate."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def complain(message: str) -> None:
    """One line on standard error."""
    print(message, file=sys.stderr)


def _demo(options: argparse.Namespace) -> int:
    import_module("asgi_trace._configuration.configure")  # it knows how to import the SDK whatever stands in OTEL_*
    from .demo.command import Options, run

    return run(
        Options(
            output=options.output,
            picture=options.picture,
            json=options.json,
            colour=not options.no_color,
            keep_running=options.keep_running,
        )
    )


def _view(options: argparse.Namespace) -> int:
    from .viewer.command import run

    return run(host=options.host, port=options.port, output=options.output, colour=not options.no_color)
