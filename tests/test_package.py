"""What is built from the tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import asgi_trace
from asgi_trace._options.redact import STANDARD_QUERY_KEYS, Redaction

ROOT = Path(__file__).parents[1]


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
    """The wheel is the package with its pages, typed and licensed; the sdist has tests, benchmarks and texts, too."""
    (wheel_path,), (sdist_path,) = built.glob("*.whl"), built.glob("*.tar.gz")
    wheel = zipfile.ZipFile(wheel_path)
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "asgi_trace").rglob("*.py")}
    assert modules <= names
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "asgi_trace").rglob("*.md")}
    assert pages <= names
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


def test_the_workflow_runs_every_python_that_is_declared() -> None:
    """The matrix of the workflow has the Pythons that pyproject.toml names, from the lowest one on."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert workflow["jobs"]["python"]["strategy"]["matrix"]["python"] == declared
    assert f'requires-python = ">={declared[0]}"' in project


def test_the_security_policy_names_what_is_masked() -> None:
    """The policy has every query key, and every part of a header's name, whose value is masked; and no other."""
    text = (ROOT / ".github/SECURITY.md").read_text(encoding="utf-8")
    _, _, masked = text.partition("Masked with `REDACTED`")
    keys, _, rest = masked.partition("in any case. Of captured headers")
    headers, _, _ = rest.partition("`redact=` adds")
    assert {key.lower() for key in re.findall(r"`([^`]+)`", keys)} == {key.lower() for key in STANDARD_QUERY_KEYS}
    redaction = Redaction(())
    parts = re.findall(r"`([^`]+)`", headers)
    assert all(redaction.header(f"x-{part}-x", "value") == "REDACTED" for part in parts)
    assert len(parts) == 10


def test_changelog_names_this_version() -> None:
    """The newest heading of the changelog is the version of the package, or what is not released yet."""
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert asgi_trace.__version__ in headings[:2]
