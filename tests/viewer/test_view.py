"""`asgi-trace view` as a process: ports, output, files, commands and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from asgi_trace import cli
from asgi_trace.viewer import command as view_command
from asgi_trace.viewer.options import Options, command_environment

from ..support.viewer import otlp_json

FREE_PORTS = ("--grpc-port", "0", "--http-port", "0", "--page-port", "0")


class View:
    """A running viewer. `said` is what it has written to standard error so far."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asgi_trace", "view", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        self.said = ""

    def wait_for(self, word: str) -> str:
        """Read standard error up to a line with `word`; returns the URL in it, if any."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            self.said += line
            if word in line:
                found = re.search(r"http://\S+?:\d+", line)
                return found[0] if found else ""
        raise AssertionError(self.said)

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Send the signal and wait; returns the exit code and the rest of standard output."""
        self.process.send_signal(how)
        output, said = self.process.communicate(timeout=60)
        self.said += said
        return self.process.returncode, output


@contextmanager
def view(*arguments: str) -> Iterator[View]:
    running = View(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def send_spans(endpoint: str) -> None:
    """One trace by the real exporter, with names that would harm a terminal and a page."""
    provider = TracerProvider(resource=Resource({"service.name": "orders"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    with provider.get_tracer("t").start_as_current_span("GET /orders\x1b[2J<script>"):
        pass
    provider.shutdown()


def test_it_shows_what_it_receives_until_ctrl_c(tmp_path: Path) -> None:
    """A trace is printed live, the page is written, Ctrl-C ends it with a summary and 0."""
    page = tmp_path / "view.html"
    with view(*FREE_PORTS, "--output", str(page)) as running:
        send_spans(running.wait_for("OTLP/gRPC"))
        assert running.process.stdout is not None
        live = [running.process.stdout.readline() for _ in range(5)]
        code, rest = running.end()
    assert code == 0, running.said
    assert live[1].startswith("✓ GET /orders<script> in ")
    assert rest.splitlines()[-1] == "1 trace, 0 failed, 1 span"
    assert f"✓ the page: {page}" in running.said
    assert "GET /orders&lt;script&gt;" in page.read_text("utf-8")


def test_sigterm_ends_it_like_ctrl_c_and_everything_is_saved(tmp_path: Path) -> None:
    """`--save` appends what arrived over either port, and a second viewer shows the file."""
    saved = tmp_path / "saved.jsonl"
    saved.write_text("")
    with view(*FREE_PORTS, "--save", str(saved)) as running:
        grpc, http = running.wait_for("OTLP/gRPC"), running.wait_for("OTLP/HTTP")
        send_spans(grpc)
        httpx.post(f"{http}/v1/traces", json=otlp_json("GET /a"), trust_env=False).raise_for_status()
        code, output = running.end(signal.SIGTERM)
    assert code == 0, running.said
    assert output.splitlines()[-1] == "2 traces, 0 failed, 2 spans"
    assert len([json.loads(line) for line in saved.read_text("utf-8").splitlines()]) == 2
    saved.write_text(saved.read_text("utf-8") + "not json\n{}\n")
    with view("--page-port", "0", str(saved)) as running:
        running.wait_for("Ctrl-C")
        code, output = running.end()
    assert code == 0
    assert "GET /a" in output
    assert output.splitlines()[-1] == "2 traces, 0 failed, 2 spans"
    assert f"! {saved}, line 3: this is not a JSON object" in running.said
    assert f"! {saved}, line 4: there is no resourceSpans" in running.said
    assert "OTLP" not in running.said


def test_a_command_runs_under_it_and_its_exit_code_is_ours(tmp_path: Path) -> None:
    """Its output passes through, it finds the endpoint in its environment, its trace is shown, its code is returned."""
    body = json.dumps(otlp_json("GET /from-the-command"))
    (tmp_path / "body.json").write_text(body)
    program = (
        "import os, sys, urllib.request\n"
        "names = ['EXPORTER_OTLP_PROTOCOL', 'LOGS_EXPORTER', 'METRICS_EXPORTER', 'TRACES_EXPORTER']\n"
        "print('child says', *[os.environ['OTEL_' + name] for name in names], flush=True)\n"
        "request = urllib.request.Request(os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] + '/v1/traces',\n"
        "    open(sys.argv[1], 'rb').read(), {'content-type': 'application/json'})\n"
        "urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()\n"
        "sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "body.json")]
    done = subprocess.run(
        [sys.executable, "-m", "asgi_trace", "view", *FREE_PORTS, "--", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none", "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
    )
    assert done.returncode == 7, done.stderr
    assert "child says http/protobuf otlp none otlp\n" in done.stdout
    assert "GET /from-the-command" in done.stdout
    assert "1 trace, 0 failed, 1 span" in done.stdout


def test_ctrl_c_ends_the_command_as_well() -> None:
    """The command gets the interrupt and a chance to end in order; its exit code is ours."""
    # Short sleeps: Python does not see a signal that comes just before a sleep until the sleep is over.
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\nfor _ in range(600):\n    time.sleep(0.1)\n"
    )
    with view(*FREE_PORTS, "--", sys.executable, "-c", program) as running:
        assert running.process.stdout is not None
        assert running.process.stdout.readline() == "ready\n"
        code, _ = running.end()
    assert code == 9, running.said


@pytest.mark.parametrize(("command", "code", "words"), [
    (["/no/such/command"], 127, "cannot be started"),
    ([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 137, ""),
])  # fmt: skip
def test_a_command_that_cannot_run_has_a_shells_exit_code(
    command: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """127 when it is not there, 128 and the signal's number when one ended it."""
    assert cli.main(["view", *FREE_PORTS, "--", *command]) == code
    assert words in capsys.readouterr().err


def test_a_commands_own_settings_stay() -> None:
    """What the environment says already wins; without HTTP the endpoint is that of gRPC."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://mine", "A": "b"}
    found = command_environment(environ, http="http://h", grpc="http://g")
    assert (found["OTEL_EXPORTER_OTLP_ENDPOINT"], found["A"], found["OTEL_LOGS_EXPORTER"]) == (
        "http://mine",
        "b",
        "otlp",
    )
    found = command_environment({}, http=None, grpc="http://g")
    assert (found["OTEL_EXPORTER_OTLP_ENDPOINT"], found["OTEL_EXPORTER_OTLP_PROTOCOL"]) == ("http://g", "grpc")


@pytest.fixture
def taken() -> Iterator[str]:
    """A port in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


def test_a_port_in_use_is_said_and_the_others_go_on(taken: str) -> None:
    """The message names the address and the option."""
    with view("--grpc-port", taken, "--http-port", "0", "--page-port", "0") as running:
        http = running.wait_for("✓ OTLP/HTTP")
        answer = httpx.post(f"{http}/v1/traces", json=otlp_json("GET /a"), trust_env=False)
        assert answer.json() == {}
        code, _ = running.end()
    assert code == 0
    assert (
        f"! OTLP/gRPC: cannot listen on 127.0.0.1:{taken}: is another collector running there? "
        "Choose another port with --grpc-port.\n" in running.said
    )


def test_all_ports_in_use_is_an_error(taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, a message for each, and nothing on standard output."""
    assert cli.main(["view", "--grpc-port", taken, "--http-port", taken, "--page-port", taken]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count(f"cannot listen on 127.0.0.1:{taken}") >= 2


def test_a_missing_file_is_a_wrong_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and its name."""
    assert cli.main(["view", "--page-port", "0", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_a_page_file_that_cannot_be_written_is_said_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Better than after hours of receiving."""
    (tmp_path / "file").write_text("")
    options = Options(grpc_port=0, http_port=0, page_port=0, output=tmp_path / "file" / "page.html", colour=False)
    assert view_command.run(options, Event()) == 1
    assert "! a file cannot be written: " in capsys.readouterr().err
