"""Where peers live: the interpreter that runs this, and one virtual environment for each vendor.

The vendors' environments lie outside of the repository, in a directory of the user's temporary folder that the variable
`ASGI_TRACE_BENCH_CACHE` can move. `python -m benchmarks install-peers` makes them.
"""

from __future__ import annotations

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
    *("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation-asgi"),
    *("opentelemetry-exporter-otlp-proto-grpc", "starlette", "fastapi", "httpx", "uvicorn", "grpcio"),
)


def cache() -> Path:
    """The directory of what is made once; one for each Python minor version."""
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
    if peer.environment == MAIN and peer.middleware:
        try:
            import_module(peer.middleware.partition(":")[0])
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
    pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]]
    for command in ([sys.executable, "-m", "venv", "--clear", str(path)], pip):
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if result.returncode != 0:
            say(f"{name}: failed\n{result.stderr.strip()[-2000:]}")
            return False
    (path / "complete").touch()
    say(f"{name}: ready")
    return True


def versions(packages: tuple[str, ...] = _VERSIONS) -> dict[str, str]:
    """The versions of those packages that are installed beside this interpreter."""
    installed = {each.name: each.version for each in metadata.distributions()}
    return {package: installed[package] for package in packages if package in installed}


def version_of(vendor: str) -> dict[str, str]:
    """The version of a vendor's package in its environment; empty where that is not installed."""
    found = sorted((cache() / vendor).glob(f"lib/python*/site-packages/{vendor.replace('-', '_')}-*.dist-info"))
    return {vendor: found[0].name.split("-")[1].removesuffix(".dist")} if found else {}


def machine() -> dict[str, str]:
    """The machine of the measurement, without names of hosts or paths."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(cores())),
    }


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def build() -> dict[str, str]:
    """What an instruction count depends on besides the code: counts of equal builds can be compared."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    flags = ("--enable-optimizations", "--with-lto", "--enable-shared", "--with-pydebug")
    return {
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "flags": " ".join(flag for flag in flags if flag in arguments),
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        **versions(("opentelemetry-api", "opentelemetry-sdk", "starlette", "httpx")),
    }


def variables(peer: Peer | None = None) -> dict[str, str]:
    """The environment of a measuring process: nothing of the user's that could change a figure."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        **(peer.variables if peer else {}),
    }
