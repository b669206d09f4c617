"""Where peers live: the interpreter that runs this, and one virtual environment for each vendor.

The vendors' environments lie outside the repository, in a directory of the user's temporary folder that
`ASGI_TRACE_BENCH_CACHE` can move, and are made by `python -m benchmarks install-peers`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

from .peers import MAIN, Peer
from .vendors import REQUIREMENTS

ROOT = Path(__file__).resolve().parent.parent

_VERSIONS = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-exporter-otlp-proto-grpc",
    "starlette",
    "fastapi",
    "httpx",
    "uvicorn",
    "grpcio",
)


def cache() -> Path:
    """Where everything that is made once is kept; one for each Python minor version."""
    base = os.environ.get("ASGI_TRACE_BENCH_CACHE") or os.path.join(tempfile.gettempdir(), "asgi-trace-benchmarks")
    path = Path(base) / f"python{sys.version_info.major}.{sys.version_info.minor}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def python(environment: str) -> Path | None:
    """The interpreter of an environment, or None where it is not installed."""
    if environment == MAIN:
        return Path(sys.executable)
    path = cache() / environment / "bin" / "python"
    return path if path.exists() and (cache() / environment / "complete").exists() else None


def missing(peer: Peer) -> str | None:
    """Why a peer cannot be measured here, or None when it can."""
    if python(peer.environment) is None:
        return f"{peer.environment} is not installed (python -m benchmarks install-peers)"
    if peer.environment != MAIN:
        return None
    for module in peer.modules:
        try:
            import_module(module)
        except ImportError as exc:
            return str(exc)
    return None


def install(names: list[str], say: Callable[[str], None]) -> bool:
    """Make the environments of those vendors; say what happened. False when one of them failed."""
    done = [_install(name, say) for name in names]
    return all(done)


def _install(name: str, say: Callable[[str], None]) -> bool:
    path = cache() / name
    say(f"{name}: installing {', '.join(REQUIREMENTS[name])}")
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(path)],
        [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]],
    ]
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if result.returncode != 0:
            say(f"{name}: failed\n{result.stderr.strip()[-2000:]}")
            return False
    (path / "complete").touch()
    say(f"{name}: ready")
    return True


def versions(packages: tuple[str, ...] = _VERSIONS) -> dict[str, str]:
    """The versions of those packages that are installed beside this interpreter."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def versions_in(environment: str, packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those packages in a vendor's environment."""
    interpreter = python(environment)
    if interpreter is None:
        return {}
    code = "import sys; from importlib.metadata import version; print(*(version(name) for name in sys.argv[1:]))"
    result = subprocess.run([interpreter, "-c", code, *packages], capture_output=True, text=True, check=False)
    return dict(zip(packages, result.stdout.split()))  # noqa: B905 - empty when one of them is missing


def machine() -> dict[str, str]:
    """What the figures were taken on, without names of hosts or paths."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def source() -> str:
    """A fingerprint of the package's own files: a run is worth something only while they stay as they are."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "asgi_trace").rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def build() -> dict[str, str]:
    """What an instruction count depends on besides the code: two equal ones make counts comparable."""
    names = ("opentelemetry-api", "opentelemetry-sdk", "starlette", "httpx")
    return {
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "flags": _flags(),
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        **versions(names),
    }


def _flags() -> str:
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    wanted = ("--enable-optimizations", "--with-lto", "--enable-shared", "--with-pydebug")
    return " ".join(flag for flag in wanted if flag in arguments)


def variables(peer: Peer | None = None) -> dict[str, str]:
    """The environment of a measuring process: nothing of the user's that could change a figure."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        **(peer.variables if peer else {}),
    }
