"""The demo's services from the parent's side: what fails is named, and no process is left."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Mapping

import pytest

from asgi_trace.demo.process import ServiceFailed, ServiceProcess, control_message
from asgi_trace.demo.scenario import STEPS, Scenario, StepFailed, child_environment
from asgi_trace.viewer.render.progress import Progress

from ..support.demo import FORGED, HOSTILE_ENVIRONMENT, is_alive, wait_until_gone


class Silent:
    """A scenario without its progress."""

    def __init__(self, *services: str, environ: Mapping[str, str] | None = None) -> None:
        self.stream = io.StringIO()
        self.scenario = Scenario(Progress(self.stream), environ or os.environ, services=services)


def test_a_service_that_cannot_start_is_a_clear_error() -> None:
    """The error names the service and shows its last words; what had started is stopped."""
    with Silent("inventory", "nonsense").scenario as scenario:
        with pytest.raises(ServiceFailed, match=r"(?s)^nonsense did not start to serve; its last words:.*No module"):
            scenario.start()
        pids = [process.pid for process in scenario.processes]
    assert len(pids) == 2
    assert not [pid for pid in pids if is_alive(pid)]


def test_an_answer_that_is_not_the_expected_one_is_a_clear_error() -> None:
    """A story that goes another way ends with the request, the two statuses and the answer."""
    with Silent("inventory").scenario as scenario:
        scenario.start()
        with pytest.raises(
            StepFailed, match=r"^POST /checkout answered 404 instead of 200: \{\"error\": \"not found\"\}"
        ):
            scenario.drive()


def test_a_service_that_dies_at_work_is_a_clear_error() -> None:
    """Its name and its exit code are told."""
    with Silent("inventory").scenario as scenario:
        scenario.start()
        os.kill(scenario.processes[0].pid, signal.SIGKILL)
        wait_until_gone([scenario.processes[0].pid])
        with pytest.raises(ServiceFailed, match=r"^inventory ended with exit code -9"):
            scenario.drive()


def test_a_service_that_does_not_stop_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience has an end: first SIGTERM, then SIGKILL."""
    monkeypatch.setattr("asgi_trace.demo.process._STOPS_IN", 0.1)
    monkeypatch.setattr(
        "asgi_trace.demo.process._START",
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        'print(\'{"asgi_trace_demo": {"port": 1}}\', flush=True)\ntime.sleep(60)',
    )
    process = ServiceProcess("stubborn", dict(os.environ))
    process.wait_for_port(time.monotonic() + 20)
    process.stop()
    assert not is_alive(process.pid)
    process.stop()


def test_an_interpreter_that_is_missing_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot even be started names its service."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ServiceFailed, match=r"^shop could not be started: .*no/such/python"):
        ServiceProcess("shop", {})


def test_the_callers_variables_do_not_reach_the_services() -> None:
    """No OTEL_* variable and no proxy of the caller; everything else stays."""
    environment = child_environment({**HOSTILE_ENVIRONMENT, "HOME": "/home/ada", "https_proxy": "x", "NO_COLOR": "1"})
    assert environment["HOME"] == "/home/ada"
    assert environment["NO_COLOR"] == "1"
    assert not [name for name in environment if name.lower() in ("http_proxy", "https_proxy")]
    assert sorted(name for name in environment if name.startswith("OTEL_")) == [
        "OTEL_BLRP_SCHEDULE_DELAY",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_METRIC_EXPORT_INTERVAL",
    ]
    assert environment["OTEL_BSP_SCHEDULE_DELAY"] == "200"


def test_the_requests_can_be_repeated_by_hand() -> None:
    """Each step has its command line."""
    assert [step.curl("http://x:1") for step in STEPS[1:]] == [
        'curl http://x:1/checkout -H \'content-type: application/json\' -d \'{"items": {"kettle": 1, "umbrella": 3}}\'',
        "curl http://x:1/products/piano",
        "curl http://x:1/catalogue",
        f"curl http://x:1/products/kettle -H 'traceparent: 00-{FORGED}-00f067aa0ba902b7-01' -H 'baggage: role=admin'",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"asgi_trace_demo": {"port": 7}}\n', {"port": 7}),
        ('{"asgi_trace_demo": {"ready": true}}\n', {"ready": True}),
        ('{"asgi_trace_demo": 1}\n', None),
        ('{"asgi_trace_demo": {\n', None),
        ('{"message": "x"}\n', None),
        ("text\n", None),
    ],
)
def test_control_messages_are_told_from_log_lines(line: str, message: dict[str, int] | None) -> None:
    """Only what the service's own module says counts."""
    assert control_message(line) == message
