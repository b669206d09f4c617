"""Traffic of services that know nothing of this package, as their own SDKs exported it.

`fixtures/` has what three services sent while they answered a request that failed: Node with the HTTP instrumentation
of its SDK (over gRPC), Flask with contrib's instrumentation (over HTTP) and FastAPI with contrib's (over gRPC), both
with the older HTTP conventions. Names of machines and processes were removed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_trace.viewer.receive.files import load
from asgi_trace.viewer.receive.intake import Intake

from ..support.page import live_page

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize(
    ("name", "service", "method", "path", "route", "traces", "cause", "logged"),
    [
        (
            "node", "node-shop", "GET", "/checkout", None, 1,
            "node-shop made GET /checkout fail: "
            "TypeError: no stock of kettle (in “reserve”, service.js:9 in takeFromStock).",
            ["could not reserve: no stock of kettle"],
        ),
        (
            "flask", "flask-shop", "GET", "/items/2", "/items/<int:number>", 2,
            "flask-shop made GET /items/<int:number> fail: "
            "KeyError: 2 (in “GET /items/<int:number>”, flask_app.py:23 in item).",
            ["looking for 2", "Exception on /items/2 [GET]"],
        ),
        (
            "fastapi", "fastapi-shop", "GET", "/items/2", "/items/{number}", 2,
            "fastapi-shop made GET /items/{number} fail: "
            "KeyError: 2 (in “GET /items/{number}”, fastapi_app.py:24 in item).",
            ["looking for 2"],
        ),
    ],
)  # fmt: skip
def test_a_foreign_service_is_understood(
    name: str, service: str, method: str, path: str, route: str | None, traces: int, cause: str, logged: list[str]
) -> None:
    """Status, path, route, place of the exception, log lines and both kinds of figures are there."""
    with live_page() as page:
        complaints: list[str] = []
        load(FIXTURES / f"{name}.jsonl", Intake(page.store, complain=complaints.append), complaints.append)
        assert complaints == []
        (row,) = page.get("/api/traces?status=failed").json()["traces"]
        assert (row["service"], row["method"], row["path"], row["route"]) == (service, method, path, route)
        assert (row["status"], row["failed"], row["cause"]) == (500, True, cause)
        assert len(page.rows()) == traces
        whole = page.get(f"/api/traces/{row['trace_id']}").json()
        assert [log["body"] for log in whole["logs"]] == logged
        assert {log["severity"] for log in whole["logs"]} == {"ERROR"}
        (figures,) = page.get("/api/routes").json()["routes"]
        assert (figures["requests"], figures["errors"]) == (2, 1)
        assert "as metrics" in page.get("/routes").text
        assert service in page.get("/map").text
