"""The options of `asgi-trace view`, and what a command that runs under it finds in its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .receive.store import MAX_MEMORY, MAX_TRACES

GRPC_PORT, HTTP_PORT, PAGE_PORT = 4317, 4318, 16686


@dataclass(frozen=True)
class Options:
    """What the command line says. A port is 0 for any free one, and None for no listener at all."""

    host: str = "127.0.0.1"
    grpc_port: int | None = GRPC_PORT
    http_port: int | None = HTTP_PORT
    page_port: int | None = PAGE_PORT
    output: Path | None = None
    save: Path | None = None
    max_traces: int = MAX_TRACES
    max_memory: int = MAX_MEMORY
    colour: bool = True
    open_browser: bool = False
    allow_origin: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=())
    command: tuple[str, ...] = ()


def command_environment(environ: Mapping[str, str], *, http: str | None, grpc: str | None) -> dict[str, str]:
    """The environment of a command that sends here. What it has set already, it keeps.

    `http` and `grpc` are the endpoints that listen; HTTP is preferred, because every SDK speaks it.
    """
    wanted = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
    }
    if http is not None:
        wanted |= {"OTEL_EXPORTER_OTLP_ENDPOINT": http, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    elif grpc is not None:
        wanted |= {"OTEL_EXPORTER_OTLP_ENDPOINT": grpc, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    return {**wanted, **environ}
