"""`asgi-trace demo` and `asgi-trace view`: arguments, exit codes, and what is printed where.

Results go to standard output, progress and complaints to standard error. Exit codes: 0, 1 when something failed, 2 for
wrong arguments or a missing extra, 130 after Ctrl-C while the demo works. The viewer ends with 0 after Ctrl-C or
SIGTERM, and with the exit code of the command that runs under it. What the commands need is imported when they run.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ._version import VERSION
from .viewer.options import GRPC_PORT, HTTP_PORT, PAGE_PORT
from .viewer.receive.store import MAX_MEMORY, MAX_TRACES

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_NEEDS = {
    "demo": ("opentelemetry.sdk", "opentelemetry.proto", "grpc", "httpx", "fastapi", "rich", "starlette", "uvicorn"),
    "view": ("opentelemetry.proto", "grpc", "rich", "starlette", "uvicorn"),
}
_EXTRAS = {"demo": "demo", "view": "view"}
DEFAULT_PAGE = "asgi-trace-demo.html"


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
    demo.add_argument(
        "--open",
        action="store_true",
        dest="open_browser",
        help="open the live page with the traces in a browser; it and the services stay up until Ctrl-C",
    )
    demo.add_argument("--json", action="store_true", help="print the traces as JSON instead")
    demo.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR does the same)")
    demo.add_argument(
        "--keep-running", action="store_true", help="leave the services up until Ctrl-C, and show what you send them"
    )

    _add_view(commands)
    return top


def _add_view(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    view = commands.add_parser(
        "view",
        help="receive traces of your own services and show them in a browser",
        usage="asgi-trace view [options] [FILE ...] [-- COMMAND ...]",
        description="Listen for OTLP over gRPC and HTTP, where every OpenTelemetry exporter sends by default, show "
        "each trace in the terminal when it is complete, and all of them on a live page. With FILEs, show what --save "
        "wrote. With a COMMAND, start it so that it sends here, and end with it. Ctrl-C ends it with a summary.",
    )
    for name, default, what in (
        ("grpc", GRPC_PORT, "OTLP/gRPC"),
        ("http", HTTP_PORT, "OTLP/HTTP"),
        ("page", PAGE_PORT, "the page"),
    ):
        view.add_argument(
            f"--{name}-port",
            type=_port,
            metavar="PORT",
            help=f"the port of {what} (default: {default}; 0: any free one)",
        )
    view.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    view.add_argument("--open", action="store_true", dest="open_browser", help="open the page in a browser")
    view.add_argument("--output", type=Path, metavar="PATH", help="keep an HTML file of all traces up to date")
    view.add_argument(
        "--save", type=Path, metavar="FILE", help="append everything that arrives to a file of OTLP/JSON lines"
    )
    view.add_argument(
        "--max-traces", type=_count, default=MAX_TRACES, metavar="N", help="traces kept (default: %(default)s)"
    )
    view.add_argument(
        "--max-memory", type=_memory, default=MAX_MEMORY, metavar="SIZE", help="memory for them (default: 256MB)"
    )
    view.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN", help="a web page that may send to OTLP/HTTP"
    )
    view.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR does the same)")
    view.add_argument("files", nargs="*", type=Path, metavar="FILE", help="files of OTLP/JSON lines to show")


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return port


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10_000_000):
        raise argparse.ArgumentTypeError(f"write a whole number from 1 on, not {text!r}")
    return int(text)


def _memory(text: str) -> int:
    """Bytes of `64MB`, `64MiB`, `1g` or `1000000`."""
    found = re.fullmatch(r"(\d{1,12})\s*(?:([kmg])i?b?|b)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(found[1]) * 1024 ** " kmg".index((found[2] or " ").lower()) if found else 0
    if size < 1024 * 1024:
        raise argparse.ArgumentTypeError(f"write a size from 1MB on, as 64MB or 1GB, not {text!r}")
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. `arguments` are those of the process unless given."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command_line: list[str] = []
    if given[:1] == ["view"] and "--" in given:
        split = given.index("--")
        given, command_line = given[:split], given[split + 1 :]
        if not command_line:
            parser().error("write a command after --")
    options = parser().parse_args(given)
    missing = next((name for name in _NEEDS[options.command] if not _is_there(name)), None)
    if missing is not None:
        extra = _EXTRAS[options.command]
        complain(f"asgi-trace {options.command} needs {missing}: pip install 'asgi-trace[{extra}]'")
        return USAGE
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said here, in one line
    command = _demo if options.command == "demo" else _view
    try:
        with _sigterm_like_ctrl_c():
            return command(options, command_line)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader is gone; exit must not fail to flush
        return FAILED


@contextmanager
def _sigterm_like_ctrl_c() -> Generator[None, None, None]:
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


def _demo(options: argparse.Namespace, _: Sequence[str]) -> int:
    import_module("asgi_trace._configuration.configure")  # it knows how to import the SDK whatever stands in OTEL_*
    from .demo.command import Options, run

    return run(
        Options(
            output=options.output,
            picture=options.picture,
            json=options.json,
            colour=not options.no_color,
            keep_running=options.keep_running,
            open_browser=options.open_browser,
        )
    )


def _view(options: argparse.Namespace, command_line: Sequence[str]) -> int:
    from .viewer.command import run
    from .viewer.options import Options

    receives = not options.files or bool(command_line)

    def port(given: int | None, default: int, wanted: bool = True) -> int | None:
        return given if given is not None else default if wanted else None

    return run(
        Options(
            host=options.host,
            grpc_port=port(options.grpc_port, GRPC_PORT, receives),
            http_port=port(options.http_port, HTTP_PORT, receives),
            page_port=port(options.page_port, PAGE_PORT),
            output=options.output,
            save=options.save,
            max_traces=options.max_traces,
            max_memory=options.max_memory,
            colour=not options.no_color,
            open_browser=options.open_browser,
            allow_origin=tuple(options.allow_origin),
            files=tuple(options.files),
            command=tuple(command_line),
        )
    )
