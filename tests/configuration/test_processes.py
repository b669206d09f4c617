"""Processes that are forked off, children of `multiprocessing`, the first process of a container: what each sends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ..support.otlp_receiver import Receiver
from ..support.servers import eventually
from ..support.subprocess import check, environment

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEAD = """
    import logging, os, signal, sys, threading, time
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    from opentelemetry import metrics, trace
    from asgi_trace import configure
    tracer = trace.get_tracer("test")
"""


def ids(receiver: Receiver) -> list[str]:
    """The instance ids of all that has arrived."""
    return [resource["service.instance.id"] for resource in receiver.resources]


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_fork(used: bool) -> None:
    """A process that is forked off after configure(), as by gunicorn --preload, sends its own spans and metrics.

    Its metrics begin at zero, its losses too, and its `service.instance.id` is its own.
    """
    script = (
        HEAD
        + f"""
    tracing = configure("orders", metrics=True)
    counter = metrics.get_meter("test").create_counter("orders")
    other = metrics.get_meter("test").create_counter("others")
    histogram = metrics.get_meter("test").create_histogram("seconds")
    metrics.get_meter("test").create_observable_gauge("gauge", [lambda options: [metrics.Observation(os.getpid())]])
    if {used}:
        tracer.start_span("before").end()
        counter.add(10)
        other.add(5)
        histogram.record(1.5)
        assert tracing.force_flush()
        counter.add(20)
    children = []
    for _ in range(2):
        if pid := os.fork():
            children.append(pid)
        else:
            for _ in range(10):
                tracer.start_span("child").end()
            counter.add(1)
            histogram.record(0.5)
            sys.exit()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    tracer.start_span("after").end()
    """
    )
    with Receiver() as receiver:
        check(script, PYTHONWARNINGS="ignore", **{ENDPOINT: receiver.endpoint})
        names = [span.name for span in receiver.spans]
        assert (names.count("child"), names.count("after"), names.count("before")) == (20, 1, int(used))
        orders = [metric.sum.data_points[0].as_int for metric in receiver.metrics if metric.name == "orders"]
        assert sorted(orders) == ([1, 1, 10, 30] if used else [1, 1])
        others = [metric.sum.data_points[0].as_int for metric in receiver.metrics if metric.name == "others"]
        assert others == ([5, 5] if used else [])  # the parent's two exports, and none of a child
        seconds = [metric.histogram.data_points[0].count for metric in receiver.metrics if metric.name == "seconds"]
        assert sorted(seconds) == ([1, 1, 1, 1] if used else [1, 1])
        gauges = {metric.gauge.data_points[0].as_int for metric in receiver.metrics if metric.name == "gauge"}
        assert len(gauges) == 3
        assert len(set(ids(receiver))) == 3


def test_losses_of_a_fork_begin_at_zero() -> None:
    """What the parent has lost, and what waits there, is not counted by a child."""
    script = (
        HEAD
        + """
    tracing = configure("orders", endpoint="http://127.0.0.1:1", schedule_delay_millis=60_000, metrics="otlp")
    tracer.start_span("lost").end()
    assert not tracing.force_flush()
    tracer.start_span("waiting").end()
    assert tracing.lost["spans"] == 1
    pid = os.fork()
    if not pid:
        zero = tracing.lost == {"spans": 0, "data points": 0, "logs": 0} and tracing.force_flush()
        os._exit(not zero)
    assert os.waitpid(pid, 0)[1] == 0
    tracing.shutdown()
    assert tracing.lost["spans"] == 2
    """
    )
    check(script, PYTHONWARNINGS="ignore")


MULTIPROCESSING = textwrap.dedent(
    """
    import multiprocessing, sys, time
    from concurrent.futures import ProcessPoolExecutor
    from opentelemetry import metrics, trace
    from asgi_trace import configure

    tracing = configure("orders", schedule_delay_millis=60_000, metrics=True)

    def work(number):
        trace.get_tracer("test").start_span(f"child {number}").end()
        metrics.get_meter("test").create_counter("orders").add(1)
        return number

    def main():
        context = multiprocessing.get_context(sys.argv[1])
        trace.get_tracer("test").start_span("parent").end()
        kind = sys.argv[2]
        if kind == "Process":
            children = [context.Process(target=work, args=(number,)) for number in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            assert [child.exitcode for child in children] == [0, 0]
        elif kind == "Pool":
            with context.Pool(2) as pool:
                assert pool.map(work, range(4), chunksize=1) == [0, 1, 2, 3]
        elif kind == "closed Pool":
            pool = context.Pool(2)
            assert pool.map(work, range(4), chunksize=1) == [0, 1, 2, 3]
            pool.close()
            pool.join()
        else:
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                assert list(pool.map(work, range(4))) == [0, 1, 2, 3]

    if __name__ == "__main__":
        main()
    """
)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("kind", ["Process", "Pool", "closed Pool", "ProcessPoolExecutor"])
def test_children_of_multiprocessing(method: str, kind: str, tmp_path: Path) -> None:
    """Whatever starts and ends a child, it sends its spans and metrics before it ends."""
    (tmp_path / "program.py").write_text(MULTIPROCESSING)
    with Receiver() as receiver:
        done = subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), method, kind],
            env=environment(**{ENDPOINT: receiver.endpoint, "PYTHONWARNINGS": "ignore"}),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        expected = 2 if kind == "Process" else 4
        eventually(
            lambda: len(receiver.spans) == expected + 1, "the spans"
        )  # a Pool does not wait for its workers' end
        assert sorted(span.name for span in receiver.spans) == [
            *(f"child {number}" for number in range(expected)),
            "parent",
        ]
        orders = [metric.sum.data_points[0].as_int for metric in receiver.metrics if metric.name == "orders"]
        assert sum(orders) == expected


def test_the_first_process_of_a_container(tmp_path: Path) -> None:
    """As PID 1, which SIGTERM's default action does not end, a SIGTERM flushes, and tracing goes on."""
    unshare = shutil.which("unshare")
    spaces = [unshare or "", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if unshare is None or subprocess.run([*spaces, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespace can be made here")
    script = textwrap.dedent(HEAD) + textwrap.dedent(
        """
        assert os.getpid() == 1
        configure("orders", schedule_delay_millis=60_000)
        tracer.start_span("before").end()
        print("ready", flush=True)
        sys.stdin.readline()
        tracer.start_span("after").end()
        """
    )
    with Receiver() as receiver:
        process = subprocess.Popen(
            [*spaces, sys.executable, "-c", script],
            env=environment(**{ENDPOINT: receiver.endpoint}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for _ in range(2):
            os.kill(int(children[0]), signal.SIGTERM)
            receiver.wait_for(lambda: receiver.named("before"))
        process.communicate("go on\n", timeout=60)
        assert process.returncode == 0
        assert [span.name for span in receiver.spans] == ["before", "after"]


def test_a_hanging_detector_costs_seconds(tmp_path: Path) -> None:
    """A resource detector that hangs delays the start by 5 seconds, is said, and does not hold up the exit."""
    info = tmp_path / "hanging-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[opentelemetry_resource_detector]\nhanging = hanging:Detector\n")
    (tmp_path / "hanging.py").write_text(
        "import threading\nclass Detector:\n    def detect(self):\n        threading.Event().wait()\n"
    )
    script = (
        HEAD
        + f"""
    sys.path.insert(0, {str(tmp_path)!r})
    began = time.monotonic()
    tracing = configure("orders", exporter="none")
    assert 4.9 < time.monotonic() - began < 30
    assert tracing.tracer_provider.resource.attributes["service.name"] == "orders"
    """
    )
    began = time.monotonic()
    check(script, OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="hanging")
    assert time.monotonic() - began < 40
