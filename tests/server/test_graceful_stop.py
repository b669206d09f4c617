"""Nothing recorded is lost when a service stops, and no collector keeps it from stopping: real uvicorn, real OTLP."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..support.otlp_receiver import Receiver, closed_port, hanging_port
from ..support.subprocess import check, environment, start
from ..support.versions import installed

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

SERVICE = """
    import os
    from asgi_trace import TraceMiddleware, configure

    tracing = configure("orders", metrics=True, schedule_delay_millis=60_000)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        headers = [(b"worker", str(os.getpid()).encode())]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    app = TraceMiddleware(app)
"""

NO_LIFESPAN = """
    import os
    from asgi_trace import TraceMiddleware, configure

    configure("orders", schedule_delay_millis=60_000)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        headers = [(b"worker", str(os.getpid()).encode())]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    app = TraceMiddleware(app)
"""


def margin() -> float:
    """What a busy machine may add to what is promised, in seconds: one, or all that a small program takes just now."""
    began = time.monotonic()
    check(PROGRAM)
    return max(1.0, time.monotonic() - began)


class Service:
    """One uvicorn, with its workers, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def request(self) -> str:
        """One request on a connection of its own. Returns the process id of the worker that answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/orders")
        response = connection.getresponse()
        assert response.status == 204
        connection.close()
        return response.headers["worker"]

    def stop(self, signum: int = signal.SIGTERM) -> float:
        """Seconds from the signal to the end of the process."""
        began = time.monotonic()
        self.process.send_signal(signum)
        self.process.wait(60)
        return time.monotonic() - began


@contextmanager
def service(folder: Path, source: str, endpoint: str, *options: str) -> Iterator[Service]:
    (folder / "service.py").write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", "0", "--no-access-log", *options]
    workers = int(options[options.index("--workers") + 1]) if "--workers" in options else 1
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**{ENDPOINT: endpoint}),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        port, starting = 0, workers if workers > 1 else 0  # one alone says that it runs when it does
        assert process.stderr is not None
        while not port or starting:
            line = process.stderr.readline()
            assert line, "uvicorn ended before it served"
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
            starting -= workers > 1 and "Application startup complete" in line
        yield Service(process, port)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def test_one_worker_loses_no_span(tmp_path: Path) -> None:
    """Every SERVER span arrives, and so do the metrics, although uvicorn dies of SIGTERM and atexit never runs."""
    with Receiver() as collector, service(tmp_path, SERVICE, collector.endpoint) as running:
        for _ in range(30):
            running.request()
        assert running.stop() < 5
        assert running.process.returncode == -signal.SIGTERM
        assert len(collector.spans) == 30
        assert collector.resources[0]["service.name"] == "orders"
        duration = [metric for metric in collector.metrics if metric.name == "http.server.request.duration"][-1]
        assert [point.count for point in duration.histogram.data_points] == [30]


def test_three_workers_lose_no_span(tmp_path: Path) -> None:
    """Every SERVER span of each of three workers arrives."""
    with Receiver() as collector, service(tmp_path, SERVICE, collector.endpoint, "--workers", "3") as running:
        answered = Counter(running.request() for _ in range(30))
        while len(answered) < 3 and answered.total() < 2000:
            answered[running.request()] += 1
        assert running.stop() < 5
        assert len(answered) == 3
        assert len(collector.spans) == answered.total()
        assert Counter(span.name for span in collector.spans) == {"GET": answered.total()}


def test_sigint_loses_no_span(tmp_path: Path) -> None:
    """Ctrl-C is as graceful as SIGTERM."""
    with Receiver() as collector, service(tmp_path, SERVICE, collector.endpoint) as running:
        for _ in range(20):
            running.request()
        running.stop(signal.SIGINT)
        assert len(collector.spans) == 20


@pytest.mark.parametrize(
    ("source", "options"),
    [
        pytest.param(
            SERVICE,
            ("--lifespan", "off"),
            marks=pytest.mark.skipif(
                installed("uvicorn") < (0, 50), reason="this uvicorn handles SIGTERM before it imports the application"
            ),
            id="off",
        ),
        pytest.param(NO_LIFESPAN, (), id="unsupported"),
    ],
)
def test_sigterm_without_lifespan(tmp_path: Path, source: str, options: tuple[str, ...]) -> None:
    """Where no lifespan event tells of the stop, the signal itself does: nothing is lost, and it still kills."""
    with Receiver() as collector, service(tmp_path, source, collector.endpoint, *options) as running:
        for _ in range(20):
            running.request()
        running.stop()
        assert running.process.returncode == -signal.SIGTERM
        assert len(collector.spans) == 20


def test_a_hanging_collector_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """A collector that accepts and says nothing costs a stopping service five seconds in all, and no request any."""
    spare = margin()
    with hanging_port() as port, service(tmp_path, SERVICE, f"http://127.0.0.1:{port}") as running:
        began = time.monotonic()
        for _ in range(20):
            running.request()
        assert time.monotonic() - began < spare
        assert running.stop() < 5 + spare


def test_a_dead_collector_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """Nobody waits for a collector that has never been there: a developer without one reloads without a delay."""
    with (
        closed_port() as port,
        service(tmp_path, SERVICE, f"http://127.0.0.1:{port}", "--workers", "2") as running,
    ):
        for _ in range(20):
            running.request()
        assert running.stop() < 2 + margin()


PROGRAM = """
    import os, signal, sys, threading, time
    from opentelemetry import metrics, trace
    from asgi_trace import configure
    tracer = trace.get_tracer("test")

    def wait_for_a_signal():
        # Short sleeps: Python does not see a signal that comes just before a sleep until the sleep is over.
        for _ in range(400):
            time.sleep(0.05)
"""
FULL_QUEUE = """
    configure("orders", metrics=True)
    metrics.get_meter("test").create_counter("orders").add(1)
    for _ in range(2048):
        tracer.start_span("work").end()
    print(time.monotonic())
"""


def exit_seconds(port: int) -> float:
    """How long a program with a full queue takes to end, after its last statement."""
    return -float(check(PROGRAM + FULL_QUEUE, **{ENDPOINT: f"http://127.0.0.1:{port}"})) + time.monotonic()


def test_a_full_queue_arrives_at_the_exit() -> None:
    """A program that just ends loses neither spans nor metrics."""
    with Receiver() as collector:
        assert exit_seconds(collector.port) < 2 + margin()
        assert len(collector.spans) == 2048
        assert collector.metric_names == ["orders"]


def test_a_full_queue_does_not_hold_up_the_exit() -> None:
    """A collector that hangs costs less than five seconds for spans and metrics together, one that is dead none."""
    with hanging_port() as port:
        assert exit_seconds(port) < 5 + margin()
    with closed_port() as port:
        assert exit_seconds(port) < 1 + margin()


SIGTERM_SCRIPTS = {
    "default action": ("", -signal.SIGTERM, 10),
    "somebody's handler": ("signal.signal(signal.SIGTERM, lambda *_: os._exit(7))", 7, 0),
    "switched off": ("settings['flush_on_sigterm'] = False", -signal.SIGTERM, 0),
    "in a thread": ("threaded = True", -signal.SIGTERM, 0),
}


@pytest.mark.parametrize("case", SIGTERM_SCRIPTS)
def test_sigterm_of_a_plain_program(case: str) -> None:
    """SIGTERM's default action first sends what is queued; whoever handles SIGTERM is left alone."""
    line, code, arrived = SIGTERM_SCRIPTS[case]
    script = f"""
    settings = dict(schedule_delay_millis=60_000)
    threaded = False
    {line}
    if threaded:
        thread = threading.Thread(target=configure, args=("orders",), kwargs=settings)
        thread.start()
        thread.join()
    else:
        configure("orders", **settings)
    for _ in range(10):
        tracer.start_span("work").end()
    print("ready", flush=True)
    wait_for_a_signal()
    """
    with Receiver() as collector:
        process = start(PROGRAM + script, **{ENDPOINT: collector.endpoint})
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, len(collector.spans), errors) == (code, arrived, "")


SIGTERM_OF_A_CHILD = """
    configure("orders", metrics=True, schedule_delay_millis=60_000)
    tracer.start_span("parent").end()
    ready, write = os.pipe()
    pid = os.fork()
    if not pid:
        tracer.start_span("child").end()
        os.write(write, b"!")
        wait_for_a_signal()
    os.read(ready, 1)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    print(os.WTERMSIG(status), time.monotonic() - began)
"""


def test_sigterm_of_a_forked_child() -> None:
    """A child that was forked off sends its own spans before it dies of SIGTERM; no dead collector holds that up."""

    def ended(port: int) -> tuple[int, float]:
        endpoint = f"http://127.0.0.1:{port}"
        status, seconds = check(PROGRAM + SIGTERM_OF_A_CHILD, PYTHONWARNINGS="ignore", **{ENDPOINT: endpoint}).split()
        return int(status), float(seconds)

    with Receiver() as collector:
        assert ended(collector.port)[0] == signal.SIGTERM
        assert sorted(span.name for span in collector.spans) == ["child", "parent"]
    with closed_port() as port:
        status, seconds = ended(port)
        assert status == signal.SIGTERM
        assert seconds < 1 + margin()


@pytest.mark.parametrize("busy", ["spans", "metrics"])
def test_a_fork_during_a_flush(busy: str) -> None:
    """What a thread of the parent is waiting for does not hold up a child that is forked off meanwhile."""
    script = f"""
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    parent, started = os.getpid(), threading.Event()

    def say(*words):  # not print(): its lock would be held for good in a child that is forked off meanwhile
        os.write(1, (" ".join(map(str, words)) + " ").encode())

    def export(what):
        if what == {busy!r} and os.getpid() == parent:
            started.set()
            time.sleep(1)

    class Spans(SpanExporter):
        def export(self, spans):
            export("spans")
            say(*(span.name for span in spans))
            return SpanExportResult.SUCCESS

    class Metrics(MetricExporter):
        def export(self, metrics_data, timeout_millis=10_000, **kwargs):
            export("metrics")
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis=10_000):
            return True

        def shutdown(self, timeout_millis=30_000, **kwargs):
            pass

    reader = PeriodicExportingMetricReader(Metrics(), export_interval_millis=60_000)
    tracing = configure("orders", exporter=Spans(), metrics=reader, schedule_delay_millis=60_000)
    counter = metrics.get_meter("test").create_counter("orders")
    counter.add(1)
    tracer.start_span("parent").end()
    flushing = threading.Thread(target=tracing.force_flush)
    flushing.start()
    started.wait()
    pid = os.fork()
    if not pid:
        tracer.start_span("child").end()
        counter.add(1)
        say(tracing.force_flush(60_000))
        tracer.start_span("last").end()
        tracing.shutdown()
        os._exit(0)
    os.waitpid(pid, 0)
    flushing.join()
    """
    assert sorted(check(PROGRAM + script, PYTHONWARNINGS="ignore").split()) == ["True", "child", "last", "parent"]


def test_a_fork_during_a_flush_leaves_all_the_time() -> None:
    """What the parent has waited already does not shorten the stop of a child that is forked off meanwhile."""
    script = """
    from asgi_trace._configuration.stop_budget import StopBudget
    from asgi_trace._otel.stop import STOP_SECONDS
    budget = StopBudget()
    budget.flush_begins()
    time.sleep(0.01)
    assert budget.left() < STOP_SECONDS
    pid = os.fork()
    if not pid:
        os._exit(budget.left() != STOP_SECONDS)
    print(os.waitpid(pid, 0)[1])
    """
    assert check(PROGRAM + script, PYTHONWARNINGS="ignore") == "0\n"


def test_a_flush_that_failed_shortens_the_stop() -> None:
    """What a flush has waited for a hanging collector, the stop does not wait again."""
    spare = margin()
    script = f"""
    tracing = configure("orders", metrics=True)
    tracer.start_span("work").end()
    began = time.monotonic()
    assert not tracing.force_flush(2000)
    assert 1.9 < time.monotonic() - began < 1.5 + {spare}
    tracing.shutdown()
    print(time.monotonic() - began)
    """
    with hanging_port() as port:
        seconds = float(check(PROGRAM + script, **{ENDPOINT: f"http://127.0.0.1:{port}"}))
    assert 3.5 < seconds < 4 + spare
