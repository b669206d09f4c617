"""One real run of `asgi-trace demo --json`, shared by the tests that read it, and a few short ones that are cut off."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_trace.demo.scenario import STEPS
from asgi_trace.viewer.receive.grpc_receiver import GrpcReceiver
from asgi_trace.viewer.receive.intake import Intake
from asgi_trace.viewer.receive.store import Store

from ..support.demo import FORGED, HOSTILE_ENVIRONMENT, is_alive, pids_in, read_until, start, wait_until_gone


@dataclass
class Run:
    """A finished run, and what the collector named in its environment has got."""

    returncode: int
    report: dict[str, Any]
    progress: str
    page: str
    picture: str
    forwarded: int

    def trace(self, number: int) -> dict[str, Any]:
        """The trace of one request of the story, from 1."""
        trace: dict[str, Any] = self.report["traces"][number - 1]
        assert trace["heading"].startswith(f"{number}. ")
        return trace


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The one real run, shared by all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "asgi-trace-demo-run"
    directory.mkdir(exist_ok=True)
    result = directory / "result.json"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            result.write_text(json.dumps(run_once(directory)), "utf-8")
    return Run(**json.loads(result.read_text("utf-8")))


def run_once(directory: Path) -> dict[str, Any]:
    """Run the demo in a hostile environment, with a collector that wants the spans as well."""
    store = Store()
    with GrpcReceiver(Intake(store)) as collector:
        tee = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "no_proxy": "127.0.0.1",  # the way to that collector is the caller's own affair
        }
        page, picture = directory / "new" / "demo.html", directory / "demo.svg"
        process = start(
            "--json", "--output", str(page), "--picture", str(picture), environ={**HOSTILE_ENVIRONMENT, **tee}
        )
        output, progress = process.communicate(timeout=100)
    assert process.returncode == 0, progress
    return {
        "returncode": process.returncode,
        "report": json.loads(output),
        "progress": progress,
        "page": page.read_text("utf-8"),
        "picture": picture.read_text("utf-8"),
        "forwarded": sum(len(trace.spans) for trace in store.traces()),
    }


def spans_named(trace: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [span for span in trace["spans"] if span["name"] == name]


def test_it_ends_well_and_leaves_no_process(run: Run) -> None:
    """Exit code 0, and the three services are gone."""
    assert run.returncode == 0
    pids = pids_in(run.progress)
    assert len(pids) == 3
    assert not [pid for pid in pids if is_alive(pid)]


def test_progress_is_plain_and_apart_from_the_result(run: Run) -> None:
    """In a pipe each step is one line without escape sequences, on standard error."""
    assert "\x1b" not in run.progress
    assert "\r" not in run.progress
    lines = run.progress.splitlines()
    assert [line for line in lines if line.startswith("✓ 2. ")] == [
        "✓ 2. POST /checkout answered 502: a checkout that fails deep inside"
    ]
    assert any(line.startswith("✓ everything runs after ") for line in lines)


def test_every_request_is_one_connected_trace_over_three_services(run: Run) -> None:
    """One root, no missing parent, and each service's SERVER span with its route."""
    assert [trace["title"] for trace in run.report["traces"]] == [
        "POST /checkout",
        "POST /checkout",
        "GET /products/{sku}",
        "GET /catalogue",
        "GET /products/{sku}",
    ]
    for trace in run.report["traces"]:
        ids = {span["span_id"] for span in trace["spans"]}
        roots = [span for span in trace["spans"] if span["parent_span_id"] is None]
        assert [(span["service"], span["kind"]) for span in roots] == [("shop", "SERVER")]
        assert all(span["parent_span_id"] in ids for span in trace["spans"] if span not in roots)
        assert trace["services"] == ["shop", "orders", "inventory"]
        servers = [span for span in trace["spans"] if span["kind"] == "SERVER"]
        assert {span["service"] for span in servers} == {"shop", "orders", "inventory"}
        assert all(span["name"].endswith(span["attributes"]["http.route"]) for span in servers)


def test_client_spans_stand_between_the_services(run: Run) -> None:
    """Every SERVER span but the first hangs on the CLIENT span of its caller."""
    for trace in run.report["traces"]:
        by_id = {span["span_id"]: span for span in trace["spans"]}
        for span in trace["spans"]:
            if span["kind"] == "SERVER" and span["parent_span_id"]:
                caller = by_id[span["parent_span_id"]]
                assert caller["kind"] == "CLIENT"
                assert caller["service"] != span["service"]


def test_a_checkout_has_business_dependency_and_database_spans(run: Run) -> None:
    """Custom spans of all kinds are nested where they belong, in async code and in threads."""
    trace = run.trace(1)
    assert trace["status_code"] == 200
    assert not trace["failed"]
    assert trace["cause"] is None
    by_id = {span["span_id"]: span for span in trace["spans"]}

    def path_of(span: dict[str, Any]) -> list[str]:
        parent = by_id.get(span["parent_span_id"])
        return [*(path_of(parent) if parent else []), span["name"]]

    assert path_of(spans_named(trace, "SELECT customers")[0]) == [
        "POST /checkout",
        "dependency customer",
        "SELECT customers",
    ]
    assert path_of(spans_named(trace, "dependency basket")[0]) == ["POST /checkout", "dependency basket"]
    updates = spans_named(trace, "UPDATE stock")
    assert len(updates) == 2
    assert path_of(updates[0]) == [
        "POST /checkout",
        "check out",
        "POST /orders",
        "POST /orders",
        "reserve stock",
        "POST /stock/{sku}/reservations",
        "POST /stock/{sku}/reservations",
        "take from the shelf",
        "UPDATE stock",
    ]
    assert updates[0]["attributes"] == {
        "db.system.name": "sqlite",
        "db.namespace": "inventory",
        "db.operation.name": "UPDATE",
        "db.collection.name": "stock",
        "db.query.text": "UPDATE stock SET quantity = quantity - ? WHERE sku = ?",
    }


def test_the_failure_is_found_where_it_happened(run: Run) -> None:
    """The third service's database call is the cause, with its real exception; the others only passed it on."""
    trace = run.trace(2)
    cause = trace["cause"]
    assert trace["failed"]
    assert (cause["service"], cause["error"]) == (
        "inventory",
        "sqlite3.IntegrityError: CHECK constraint failed: quantity >= 0",
    )
    assert cause["passed_on"] == [
        {"service": "orders", "status_code": 502},
        {"service": "shop", "status_code": 502},
    ]
    assert cause["sentence"].startswith("inventory made POST /checkout fail: sqlite3.IntegrityError: CHECK constraint")
    (span,) = [span for span in trace["spans"] if span["span_id"] == cause["span_id"]]
    assert span["name"] == "UPDATE stock"
    assert span["exception"]["where"].startswith("database.py:")
    assert "Traceback" in span["events"][0]["attributes"]["exception.stacktrace"]
    statuses = [span["status_code"] for span in trace["spans"] if span["kind"] == "SERVER"]
    assert sorted(statuses) == [201, 500, 502, 502]


def test_the_slow_request_says_where_its_time_went(run: Run) -> None:
    """A sync endpoint, and the span that took most of the time."""
    trace = run.trace(3)
    assert trace["duration_ms"] > 400
    assert "“ask the supplier” of inventory" in trace["time_spent"]


def test_the_streamed_answer_is_covered_to_its_end(run: Run) -> None:
    """The spans of all three services last as long as the stream."""
    trace = run.trace(4)
    servers = [span["duration_ms"] for span in trace["spans"] if span["kind"] == "SERVER"]
    assert len(servers) == 3
    assert min(servers) > 180


def test_the_forged_context_is_linked_and_not_continued(run: Run) -> None:
    """The untrusted caller's trace id appears in a link, and in no span's own id."""
    trace = run.trace(5)
    root = trace["spans"][0]
    assert trace["trace_id"] != FORGED
    assert root["parent_span_id"] is None
    assert [link["trace_id"] for link in root["links"]] == [FORGED]
    assert all(each["trace_id"] != FORGED for each in run.report["traces"])


def test_log_lines_of_all_services_stand_with_their_trace(run: Run) -> None:
    """The services' own lines, the server's access lines and its traceback carry the ids of their request."""
    trace = run.trace(2)
    ids = {span["span_id"] for span in trace["spans"]}
    said = {(log["service"], log["body"]) for log in trace["logs"]}
    assert ("shop", "checkout of ada: 1 x kettle, 3 x umbrella") in said
    assert ("inventory", "taking 3 x umbrella") in said
    assert any(service == "orders" and body.endswith(": inventory answered 500") for service, body in said)
    assert {log["service"] for log in trace["logs"] if log["logger"] == "uvicorn.access"} == {
        "shop",
        "orders",
        "inventory",
    }
    assert all(log["span_id"] in ids for log in trace["logs"])
    (server_error,) = [log for log in trace["logs"] if log["body"].startswith("Exception in ASGI application")]
    assert "IntegrityError" in server_error["attributes"]["exception.stacktrace"]


def test_metrics_agree_with_the_traces(run: Run) -> None:
    """The histograms of all services have every request, its errors, and about the spans' durations."""
    metrics = {(route["service"], route["method"], route["route"]): route for route in run.report["metrics"]}
    checkout = metrics["shop", "POST", "/checkout"]
    assert (checkout["requests"], checkout["errors"]) == (2, 1)
    reservations = metrics["inventory", "POST", "/stock/{sku}/reservations"]
    assert (reservations["requests"], reservations["errors"]) == (4, 1)
    assert len(metrics) == 9
    for (service, _, route), metric in metrics.items():
        spans = [
            span["duration_ms"]
            for trace in run.report["traces"]
            for span in trace["spans"]
            if span["service"] == service and span["attributes"].get("http.route") == route and span["kind"] == "SERVER"
        ]
        assert metric["requests"] == len(spans)
        assert metric["max_ms"] == pytest.approx(max(spans), abs=1.0)


def test_the_page_and_the_picture_show_the_run(run: Run) -> None:
    """Both files have the failed request; the page has all five."""
    for trace in run.report["traces"]:
        assert trace["trace_id"] in run.page
        assert trace["heading"] in run.page
    assert run.trace(2)["trace_id"] in run.picture
    assert run.trace(1)["trace_id"] not in run.picture
    assert Path(run.report["page"]).name == "demo.html"


def test_the_spans_go_to_the_named_collector_as_well(run: Run) -> None:
    """With an endpoint in the environment the same spans arrive there, and the progress says how many."""
    spans = sum(len(trace["spans"]) for trace in run.report["traces"])
    assert run.forwarded == spans
    assert f"✓ {spans} spans went to 127.0.0.1:" in run.progress


def test_the_services_stay_up_when_asked_to(tmp_path: Path) -> None:
    """With --open the live page has the five traces, own requests are shown as they come, Ctrl-C ends it with 0."""
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened.tmp && mv {tmp_path}/opened.tmp {tmp_path}/opened\n'
    )
    browser.chmod(0o755)
    arguments = ("--open", "--no-color", "--output", str(tmp_path / "demo.html"))
    process = start(*arguments, environ={"BROWSER": str(browser)})
    assert process.stderr is not None
    assert process.stdout is not None
    watchdog = threading.Timer(100, process.kill)
    watchdog.start()
    try:
        progress = read_until(process.stderr, "products/kettle -H")
        url = re.findall(r"the shop is (http://\S+)\.", progress)[0]
        commands = [line for line in progress.splitlines() if line.startswith("✓ curl ")]
        assert len(commands) == len(STEPS)
        page = re.findall(r"the live page with these traces: (http://\S+)", progress)[0]
        traces = httpx.get(f"{page}api/traces", trust_env=False).json()["traces"]
        assert [trace["path"] for trace in traces] == [step.path for step in STEPS[::-1]]
        assert [trace["failed"] for trace in traces] == [False, False, False, True, False]
        logs = httpx.get(f"{page}api/traces/{traces[3]['trace_id']}", trust_env=False).json()["logs"]
        assert "checkout of ada: 1 x kettle, 3 x umbrella" in [log["body"] for log in logs]
        answer = httpx.get(f"{url}/products/teapot", trust_env=False)
        assert answer.json() == {"sku": "teapot", "price": 1900, "quantity": 23}
        trace_id = answer.headers["traceresponse"].split("-")[1]
        output = read_until(process.stdout, trace_id)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    assert process.returncode == 0, rest
    assert (tmp_path / "opened").read_text() == page
    assert "✗ POST /checkout → 502 in " in output
    assert "  → inventory made POST /checkout fail: sqlite3.IntegrityError" in output
    assert "routes (SERVER spans)" in output
    assert "metrics (histograms of http.server, as received)" in output
    assert "5 requests, 1 failed." in output
    assert trace_id in output[output.index("5 requests, 1 failed.") :]
    assert trace_id in (tmp_path / "demo.html").read_text("utf-8")
    wait_until_gone(pids_in(progress))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_interrupted_at_work(how: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM stop everything in order: exit code 130, a short word, no process left."""
    process = start("--output", str(tmp_path / "demo.html"))
    assert process.stderr is not None
    progress = read_until(process.stderr, "inventory serves on")
    process.send_signal(how)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "! interrupted; everything is stopped"
    wait_until_gone(pids_in(progress), seconds=0.0)


def test_no_service_outlives_its_parent(tmp_path: Path) -> None:
    """When the parent is killed outright, the services notice and end."""
    process = start("--output", str(tmp_path / "demo.html"))
    assert process.stderr is not None
    progress = read_until(process.stderr, "inventory serves on")
    process.kill()
    process.communicate(timeout=60)
    pids = pids_in(progress)
    assert len(pids) == 3
    wait_until_gone(pids)
