"""The command line: arguments, exit codes, and what reaches the commands."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from asgi_trace import __version__, cli
from asgi_trace.demo import command as demo_command
from asgi_trace.demo.command import Options
from asgi_trace.demo.process import ServiceFailed
from asgi_trace.viewer import command as view_command


def test_help_is_quick_and_needs_nothing() -> None:
    """`asgi-trace --help` imports neither the SDK nor grpc nor a framework."""
    code = (
        "import sys\nfrom asgi_trace.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as exc:\n    assert not exc.code\n"
        "heavy = {'grpc', 'opentelemetry.sdk', 'google.protobuf', 'fastapi', 'starlette', 'uvicorn', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "demo" in output
    assert "view" in output
    assert output.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    """`python -m asgi_trace` is `asgi-trace`."""
    output = subprocess.run(
        [sys.executable, "-m", "asgi_trace", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert output == f"asgi-trace {__version__}\n"


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [("demo", "fastapi", "demo"), ("demo", "grpc", "demo"), ("view", "grpc", "view"), ("view", "rich", "view")],
)
def test_a_missing_extra_is_one_clear_line(
    command: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is missing and what to install, with exit code 2."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == missing else object())
    assert cli.main([command]) == 2
    assert capsys.readouterr().err == f"asgi-trace {command} needs {missing}: pip install 'asgi-trace[{extra}]'\n"


def test_a_missing_parent_package_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any of OpenTelemetry's distributions the answer is the same."""

    def find(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(cli, "find_spec", find)
    assert cli.main(["view"]) == 2


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["view", "--port", "x"], ["view", "--port", "70000"]])
def test_wrong_arguments_end_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what is wrong."""
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "error" in capsys.readouterr().err


def test_ctrl_c_and_sigterm_end_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """130 and one word; the signal handler that was there before is back."""
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(**options: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr(view_command, "run", interrupted)
    assert cli.main(["view"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_in_the_middle_of_an_import_ends_with_130(tmp_path: Path) -> None:
    """An interrupt inside `exec` of a string, as while dataclasses are made, is an exit code, not a death by signal."""
    (tmp_path / "grpc.py").write_text('exec("raise KeyboardInterrupt")', "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "asgi_trace", "view", "--port", "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    """`asgi-trace ... | head` ends with 1 and without a word."""
    code = (
        "import sys\nfrom asgi_trace import cli\nfrom asgi_trace.viewer import command\n"
        "command.run = lambda **options: command.write_out('x' * 1_000_000) or 0\n"
        "sys.stdin.readline()\nsys.exit(cli.main(['view']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, error = process.communicate("go\n", timeout=60)
    assert (process.returncode, error) == (1, "")


def test_the_options_reach_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option arrives under its name."""
    seen: list[object] = []

    def demo(options: Options) -> int:
        seen.append(options)
        return 7

    def view(**options: object) -> int:
        seen.append(options)
        return 8

    monkeypatch.setattr(demo_command, "run", demo)
    monkeypatch.setattr(view_command, "run", view)
    assert cli.main(["demo", "--output", "a.html", "--picture", "b.svg", "--json", "--no-color", "--keep-running"]) == 7
    assert cli.main(["view", "--port", "0", "--host", "::1", "--output", "c.html"]) == 8
    assert seen == [
        Options(Path("a.html"), Path("b.svg"), json=True, colour=False, keep_running=True),
        {"host": "::1", "port": 0, "output": Path("c.html"), "colour": True},
    ]


def test_a_demo_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A service that does not start is one message and exit code 1."""

    def fail(scenario: object) -> None:
        raise ServiceFailed("shop did not bind a port")

    monkeypatch.setattr("asgi_trace.demo.scenario.Scenario.start", fail)
    assert demo_command.run(Options(tmp_path / "demo.html")) == 1
    assert capsys.readouterr().err == "! the demo failed: shop did not bind a port\n"
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_cannot_write_its_page_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The result is printed all the same; the exit code is 1."""
    (tmp_path / "file").write_text("")
    for step in ("start", "drive", "stop_services"):
        monkeypatch.setattr(f"asgi_trace.demo.scenario.Scenario.{step}", lambda scenario: None)
    assert demo_command.run(Options(tmp_path / "file" / "demo.html")) == 1
    printed = capsys.readouterr()
    assert printed.out == "0 requests, 0 failed.\n"
    assert "! a file cannot be written: " in printed.err


def send_spans(endpoint: str) -> None:
    """One trace by the real exporter, with names that would harm a terminal and a page."""
    provider = TracerProvider(resource=Resource({"service.name": "orders"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    with provider.get_tracer("t").start_as_current_span("GET /orders\x1b[2J<script>"):
        pass
    provider.shutdown()


def test_view_shows_what_it_receives_until_ctrl_c(tmp_path: Path) -> None:
    """A trace is printed live, the page is written, Ctrl-C ends it with a summary and 0."""
    page = tmp_path / "view.html"
    process = subprocess.Popen(
        [sys.executable, "-m", "asgi_trace", "view", "--port", "0", "--output", str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert process.stderr is not None
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found is not None
        send_spans(found[0])
        live = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
        rest, progress = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, progress
    assert live[1].startswith("✓ GET /orders<script> in ")
    assert rest.splitlines()[-1] == "1 trace, 0 failed, 1 span"
    assert f"✓ the page: {page}" in progress
    assert "GET /orders&lt;script&gt;" in page.read_text("utf-8")


def test_view_on_a_port_in_use_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    """It names the address and the option, with exit code 1."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["view", "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"! cannot listen on 127.0.0.1:{port}: is another collector running there? Choose another port with --port.\n"
    )


def test_view_that_cannot_write_its_page_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Better at once than after hours of receiving."""
    (tmp_path / "file").write_text("")
    stop = threading.Event()
    code = view_command.run(host="127.0.0.1", port=0, output=tmp_path / "file" / "page.html", colour=False, stop=stop)
    assert code == 1
    assert "! the page cannot be written: " in capsys.readouterr().err
