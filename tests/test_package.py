"""What is built from the tree, and what the README says about it."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from threading import Thread

import pytest

import asgi_trace

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    if not (ROOT / "asgi_trace").is_dir():
        pytest.skip("the sources are not here: this run tests an installed wheel")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_wheel_and_sdist_hold_what_they_should(built: Path) -> None:
    """The wheel is the package, typed and licensed; the sdist has tests, benchmarks and texts besides."""
    (wheel_path,), (sdist_path,) = built.glob("*.whl"), built.glob("*.tar.gz")
    wheel = zipfile.ZipFile(wheel_path)
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "asgi_trace").rglob("*.py")}
    assert modules <= names
    assert {"asgi_trace/py.typed", "asgi_trace/viewer/static/page.css"} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"asgi_trace"}
    (metadata_name,) = (name for name in names if name.endswith("/METADATA"))
    metadata = Parser().parsestr(wheel.read(metadata_name).decode())
    assert metadata["Version"] == asgi_trace.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [re.split(r"[<>=]", line)[0] for line in required] == ["opentelemetry-api"]
    assert {"httpx", "httpx2", "otlp", "demo", "test", "bench"} <= set(metadata.get_all("Provides-Extra", []))
    with tarfile.open(sdist_path) as sdist:
        stored = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py"} <= stored
    assert any(name.startswith("benchmarks/") for name in stored)


def test_the_command_is_installed_with_the_package() -> None:
    """`python -m asgi_trace --version` prints the version that pyproject.toml reads from one place."""
    done = subprocess.run([sys.executable, "-m", "asgi_trace", "--version"], capture_output=True, text=True, check=True)
    assert asgi_trace.__version__ in done.stdout


def test_changelog_names_this_version() -> None:
    """The newest heading of the changelog is the version of the package, or what is not released yet."""
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert asgi_trace.__version__ in headings[:2]


def groups() -> list[str]:
    """The Python examples of the README. One that begins without an import goes on from the one before it."""
    found: list[str] = []
    for block in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if found and not re.match(r"(import|from|#) ?", block):
            found[-1] += "\n" + block
        else:
            found.append(block)
    return found


RUN = [group for group in groups() if "uvicorn.run(" not in group]


def test_readme_has_examples() -> None:
    """All examples of the README are run by the next test, but for one that serves until it is stopped."""
    assert len(RUN) >= 20
    assert len(RUN) >= len(groups()) - 1


class Anything(http.server.BaseHTTPRequestHandler):
    """Answers whatever the examples ask the other service for."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def other_service() -> Iterator[str]:
    """The address of a server that stands for `orders.internal`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anything) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("example", RUN, ids=[str(number) for number in range(len(RUN))])
def test_readme_examples_run(example: str, other_service: str, tmp_path: Path) -> None:
    """A Python example of the README runs as it stands, without a warning."""
    for module in re.findall(r"^(?:from|import) ([\w.]+)", example, re.MULTILINE):
        pytest.importorskip(module)  # what the extra `test` brings
    environment = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "PYTHONPATH": str(ROOT),
    }
    program = example.replace("http://orders.internal", other_service)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, f"{program}\n{done.stderr}"
    assert "Warning" not in done.stderr


def test_readme_links_lead_somewhere() -> None:
    """Every link to a heading or a file of the repository has a target."""
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target
