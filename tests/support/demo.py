"""Starting `asgi-trace demo` in a process of its own, and watching its services end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORGED = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE_ENVIRONMENT = {
    "OTEL_SDK_DISABLED": "true",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_SERVICE_NAME": "not-the-demo",
    "OTEL_PROPAGATORS": "baggage",
    "OTEL_BSP_SCHEDULE_DELAY": "nonsense",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "nonsense",
    "OTEL_PYTHON_EXCLUDED_URLS": ".*",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}
"""What must not change the demo's services."""


def start(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`asgi-trace demo` with these arguments, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "asgi_trace", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(environ or {})},
    )


def is_alive(pid: int) -> bool:
    """Does this process run? One that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:
        return Path("/proc/self").exists() is False
    return state != "Z"


def wait_until_gone(pids: list[int], seconds: float = 15.0) -> None:
    """Return when all these processes have ended; fail otherwise."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def pids_in(progress: str) -> list[int]:
    """The services' process ids, as the progress names them."""
    return [int(pid) for pid in re.findall(r"\(pid (\d+)\)", progress)]


def read_until(stream: Any, word: str) -> str:
    """What comes on a stream, up to the line with `word`."""
    text = ""
    while word not in text and (line := stream.readline()):
        text += line
    assert word in text, text
    return text
