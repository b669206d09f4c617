"""The demo's story: start three services, send a few requests that go well or wrong, stop everything, keep what came.

Owns the services and the receiver for as long as it lasts, and prints nothing but progress. Whatever
happens, Ctrl-C included, no process is left when `Scenario` is closed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import httpx

from ..viewer.receive.grpc_receiver import GrpcReceiver
from ..viewer.receive.intake import Intake
from ..viewer.receive.store import Store
from ..viewer.render.progress import Progress
from ..viewer.serve.page_server import PageServer
from .forward import Forwarder
from .process import ServiceFailed, ServiceProcess

SERVICES = ("shop", "orders", "inventory")
"""Each calls the next one."""
_STARTS_IN = 60.0
_END_IS_KNOWN_IN = 0.5
_ANSWERS_IN = 30.0

_FORGED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True)
class Step:
    """One request of the story, what it shows, and the status that it must have."""

    heading: str
    method: str
    path: str
    expected: int
    items: Mapping[str, int] | None = None
    headers: Mapping[str, str] | None = None

    def curl(self, url: str) -> str:
        """The request as a command line, for the shop at `url`."""
        fields = [f"-H '{name}: {value}'" for name, value in (self.headers or {}).items()]
        if self.items:
            fields += ["-H 'content-type: application/json'", f"-d '{json.dumps({'items': self.items})}'"]
        return " ".join(["curl", f"{url}{self.path}", *fields])


STEPS = (
    Step("a checkout that goes well", "POST", "/checkout", 200, {"kettle": 1, "teapot": 2}),
    Step("a checkout that fails deep inside", "POST", "/checkout", 502, {"kettle": 1, "umbrella": 3}),
    Step("a slow answer, through a sync endpoint", "GET", "/products/piano", 200),
    Step("a streamed answer", "GET", "/catalogue", 200),
    Step(
        "an untrusted caller with a forged traceparent",
        "GET",
        "/products/kettle",
        200,
        headers={"traceparent": _FORGED, "baggage": "role=admin"},
    ),
)


class StepFailed(Exception):
    """A request of the story was not answered as it should be."""


class Scenario:
    """The running demo. A context manager: on entry nothing runs yet, on exit nothing runs any more.

    `headings` maps the trace ids of the requests to what each of them shows, in the order in which they were sent;
    `page` asks for a live page of the traces.
    """

    def __init__(
        self,
        progress: Progress,
        environ: Mapping[str, str] = os.environ,
        *,
        services: tuple[str, ...] = SERVICES,
        page: bool = False,
    ) -> None:
        self.store: Store = Store()
        self.headings: dict[str, str] = {}
        self.processes: list[ServiceProcess] = []
        self._names = services
        self._progress = progress
        self._environment = child_environment(environ)
        self.forwarder: Forwarder | None = Forwarder.from_environment(environ)
        self._receiver: GrpcReceiver | None = None
        self._wants_page = page
        self.page: PageServer | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the variables that say where the spans go besides."""
        return self.forwarder.problems if self.forwarder else ()

    @property
    def url(self) -> str:
        """Where the shop listens."""
        return self.processes[0].url

    def start(self) -> None:
        """Start receiver and services. Raises `ServiceFailed` or `PortInUse`."""
        begun = time.monotonic()
        watchers = (self.forwarder.add,) if self.forwarder else ()
        self._receiver = GrpcReceiver(Intake(self.store, watchers=watchers))
        self._progress.done(f"collector listens on {self._receiver.endpoint}")
        if self._wants_page:
            self.page = PageServer(self.store, host="127.0.0.1", port=0)
            self._progress.done(f"the live page: {self.page.url}")
        deadline = begun + _STARTS_IN
        self._progress.doing(f"starting {', '.join(self._names)}")
        for name in self._names:
            self.processes.append(ServiceProcess(name, self._environment))
        for process in self.processes:
            process.wait_for_port(deadline)
        for process, upstream in zip(self.processes, [*self.processes[1:], None], strict=True):
            process.configure(collector=self._receiver.endpoint, upstream=upstream.url if upstream else "")
        for process in self.processes:
            process.wait_until_ready(deadline)
            self._progress.done(f"{process.name} serves on {process.url} (pid {process.pid})")
        self._progress.done(f"everything runs after {time.monotonic() - begun:.1f} s")

    def drive(self) -> None:
        """Send the requests of the story, one after the other. Raises `StepFailed` or `ServiceFailed`."""
        with httpx.Client(base_url=self.url, timeout=_ANSWERS_IN, trust_env=False) as client:
            for number, step in enumerate(STEPS, start=1):
                self._progress.doing(f"{step.method} {step.path}")
                status, trace_id = self._send(client, step)
                self.headings[trace_id] = f"{number}. {step.heading}"
                self._progress.done(f"{number}. {step.method} {step.path} answered {status}: {step.heading}")

    def _send(self, client: httpx.Client, step: Step) -> tuple[int, str]:
        content = {"items": dict(step.items)} if step.items else None
        try:
            answer = client.request(step.method, step.path, json=content, headers=step.headers)
        except httpx.HTTPError as exc:
            self._blame_services()
            raise self._step_failed(step, f"was not answered: {exc or type(exc).__name__}") from exc
        if answer.status_code != step.expected:
            self._blame_services()
            complaint = f"answered {answer.status_code} instead of {step.expected}: {answer.text[:200]}"
            raise self._step_failed(step, complaint)
        trace_id = answer.headers.get("traceresponse", "").split("-")[1:2]
        if not trace_id:
            raise self._step_failed(step, "was not traced: the answer has no traceresponse header")
        return answer.status_code, trace_id[0]

    def _blame_services(self) -> None:
        """Raise `ServiceFailed` where a service has ended: a moment after it stops to answer, its end is known."""
        deadline = time.monotonic() + _END_IS_KNOWN_IN
        while True:
            for process in self.processes:
                process.check()
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def _step_failed(self, step: Step, complaint: str) -> StepFailed:
        said = [f"{process.name} said:\n{words}" for process in self.processes if (words := process.last_words())]
        return StepFailed("\n".join([f"{step.method} {step.path} {complaint}", *said]))

    def wait_for_traces(self, seconds: float = 10.0) -> None:
        """Wait until every request's trace looks complete, without stopping anything."""
        deadline = time.monotonic() + seconds
        missing = set(self.headings)
        seen: dict[str, int] = {}
        while missing and time.monotonic() < deadline:
            time.sleep(0.1)
            missing -= {trace.trace_id for trace in self.store.changed(seen, quiet=0.6, patience=seconds)}

    def stop_services(self) -> None:
        """Stop the services gracefully: their last spans and metrics have arrived when this returns."""
        for process in self.processes:
            process.ask_to_stop()
        for process in self.processes:
            process.stop()

    def close(self) -> None:
        """Stop everything that still runs. Idempotent."""
        try:
            self.stop_services()
        except BaseException:
            for process in self.processes:
                process.kill()
            raise
        finally:
            if self._receiver is not None:
                self._receiver.close()
            if self.page is not None:
                self.page.close()
            if self.forwarder is not None:
                self.forwarder.close()

    def __enter__(self) -> Scenario:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment for the services, without what would change what the demo shows.

    No `OTEL_*` variable of the caller counts, and no proxy stands between two services on loopback.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("OTEL_") and name.lower() not in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    }
    return {
        **kept,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }


__all__ = ["STEPS", "Scenario", "ServiceFailed", "Step", "StepFailed", "child_environment"]
