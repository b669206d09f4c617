"""A Node service with the OpenTelemetry SDK from npm, sending to a running viewer over each protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from ..viewer.test_view import FREE_PORTS, view

PACKAGES = ("sdk-node", "api", "api-logs", "core", "instrumentation-http")
SERVICE = Path(__file__).with_name("node_service.js")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service and its packages are."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    place = tmp_path_factory.mktemp("node")
    shutil.copy(SERVICE, place / "service.js")
    command = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        *(f"@opentelemetry/{name}" for name in PACKAGES),
    ]
    subprocess.run(command, cwd=place, check=True, timeout=600)
    return place


@pytest.mark.campaign
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_node_service_is_understood(directory: Path, protocol: str) -> None:
    """Its failed request arrives with status, path, the place of its exception, and its log line."""
    with view(*FREE_PORTS) as running:
        grpc, http = running.wait_for("OTLP/gRPC"), running.wait_for("OTLP/HTTP")
        page = running.wait_for("the page")
        environ = {
            **os.environ,
            "NO_PROXY": "*",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": grpc if protocol == "grpc" else http,
        }
        subprocess.run(["node", "service.js"], cwd=directory, check=True, timeout=120, env=environ)
        with httpx.Client(base_url=page, trust_env=False) as client:
            (row,) = client.get("/api/traces").json()["traces"]
            whole = client.get(f"/api/traces/{row['trace_id']}").json()
            routes = client.get("/api/routes").json()["routes"]
        running.end()
    assert (row["service"], row["method"], row["path"], row["status"]) == ("node-shop", "GET", "/checkout", 500)
    assert row["cause"].endswith("TypeError: no stock of kettle (in “reserve”, service.js:9 in takeFromStock).")
    assert [log["body"] for log in whole["logs"]] == ["could not reserve: no stock of kettle"]
    assert [(route["requests"], route["errors"]) for route in routes] == [(2, 1)]
