"""The command line: arguments, exit codes, and what reaches the commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_trace import __version__, cli
from asgi_trace.demo import command as demo_command
from asgi_trace.demo.command import Options
from asgi_trace.demo.process import ServiceFailed
from asgi_trace.viewer import command as view_command
from asgi_trace.viewer.options import Options as ViewOptions


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


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["view", "--grpc-port", "x"],
        ["view", "--http-port", "70000"],
        ["view", "--port", "1"],
        ["view", "--max-memory", "a lot"],
        ["view", "--max-memory", "1kB"],
        ["view", "--max-traces", "0"],
        ["view", "--"],
    ],
)
def test_wrong_arguments_end_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what is wrong."""
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "error" in capsys.readouterr().err


def test_ctrl_c_and_sigterm_end_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """130 and one word; the signal handler that was there before is back."""
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(options: object) -> int:
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
        [sys.executable, "-m", "asgi_trace", "view", "--grpc-port", "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    """`asgi-trace ... | head` ends with 1 and without a word."""
    code = (
        "import sys\nfrom asgi_trace import cli\nfrom asgi_trace.viewer import command\n"
        "command.run = lambda options: command.write_out('x' * 1_000_000) or 0\n"
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

    def view(options: object) -> int:
        seen.append(options)
        return 8

    monkeypatch.setattr(demo_command, "run", demo)
    monkeypatch.setattr(view_command, "run", view)
    assert (
        cli.main(
            ["demo", *["--output", "a.html", "--picture", "b.svg", "--json", "--no-color", "--keep-running", "--open"]]
        )
        == 7
    )
    view_options = ["--grpc-port", "0", "--host", "::1", "--output", "c.html", "--max-memory", "64MB", "--open"]
    view_options += ["--save", "d.jsonl", "--max-traces", "7", "--allow-origin", "http://a", "--no-color"]
    assert cli.main(["view", *view_options]) == 8
    assert cli.main(["view", "a.jsonl", "b.jsonl"]) == 8
    assert cli.main(["view", "--", "python", "--version"]) == 8
    assert seen == [
        Options(Path("a.html"), Path("b.svg"), json=True, colour=False, keep_running=True, open_browser=True),
        ViewOptions(
            host="::1",
            grpc_port=0,
            output=Path("c.html"),
            save=Path("d.jsonl"),
            max_traces=7,
            max_memory=64 * 1024 * 1024,
            colour=False,
            open_browser=True,
            allow_origin=("http://a",),
        ),
        ViewOptions(grpc_port=None, http_port=None, files=(Path("a.jsonl"), Path("b.jsonl"))),
        ViewOptions(command=("python", "--version")),
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
