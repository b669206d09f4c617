"""`configure()` called again, and beside a provider that another library has set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from asgi_trace._configuration.again import differing

from ..support.otlp_receiver import Receiver
from ..support.subprocess import check, run

HEAD = """
    import logging, sys, threading, signal
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    from opentelemetry import metrics, trace
    from asgi_trace import configure
"""


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (None, None, True),
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        (1, 1.0, True),
        (True, 1, False),
        (False, 0, False),
        (["otlp"], ("otlp",), True),
        (["otlp"], ["otlp", "console"], False),
        (["otlp"], "otlp", False),
        (Path("/a"), "/a", True),
        ({"a": "1"}, {"a": "1"}, True),
        ({"a": "1"}, {"a": "2"}, False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({}, [], False),
        (InMemorySpanExporter(), InMemorySpanExporter(), True),
        ([InMemorySpanExporter()], (InMemorySpanExporter(),), True),
        (InMemorySpanExporter(), ConsoleSpanExporter(), False),
        (ALWAYS_ON, ALWAYS_OFF, True),
        (0.5, ALWAYS_ON, False),
        (None, InMemorySpanExporter(), False),
    ],
)
def test_which_arguments_are_the_same(first: Any, second: Any, same: bool) -> None:
    """Values compare by what they are, a list like a tuple, a path like its text, an object by its type."""
    assert differing({"name": first}, {"name": second}) == ([] if same else ["name"])
    assert differing({"name": second}, {"name": first}) == ([] if same else ["name"])


def test_the_same_call_again() -> None:
    """A factory, a notebook's cell and a module that is loaded again get the first result, from any thread."""
    script = (
        HEAD
        + """
    import os
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    def make(processors):
        return configure("orders", exporter=[InMemorySpanExporter()], headers={"api-key": "a"},
                         span_processors=processors, sampler=1)
    first = make([])
    threads = threading.active_count()
    os.environ["OTEL_TRACES_SAMPLER"] = "always_off"
    found = [make(()), make([])]
    thread = threading.Thread(target=lambda: found.append(make([])))
    thread.start()
    thread.join()
    assert all(each is first for each in found) and len(found) == 3
    assert threading.active_count() == threads
    """
    )
    assert check(script) == ""


def test_another_call_is_an_error_that_names_what_differs() -> None:
    """Other arguments raise RuntimeError with the place of the first call and the names, and with no value."""
    script = (
        HEAD
        + """
    def main(**arguments):
        try:
            configure(exporter="none", **arguments)
        except RuntimeError as exc:
            print(exc)
    main(headers={"a": "hunter2"}, endpoint="http://me:hunter2@here:1")
    main(headers={"a": "hunter3"}, endpoint="http://me:hunter2@here:1")
    main(headers={"a": "hunter3"}, metrics=True)
    """
    )
    first, second = check(script).splitlines()
    begin = "configure() has been called already, in <string>, line 9, with another value of "
    assert first.startswith(f"{begin}headers, and works once: keep what it returned")
    assert second.startswith(f"{begin}endpoint, headers, metrics, and works once")
    assert "hunter" not in first + second


def test_the_same_call_after_shutdown_is_an_error() -> None:
    """What has been shut down does not come back, and is not handed out as if it worked."""
    script = (
        HEAD
        + """
    tracing = configure(exporter="none")
    tracing.shutdown()
    try:
        configure(exporter="none")
    except RuntimeError as exc:
        print(exc)
    """
    )
    assert "and shut down since; it works once per process" in check(script)


def test_a_module_that_is_loaded_twice(tmp_path: Path) -> None:
    """`python main.py` that serves "main:app" loads main.py twice: that is the same call."""
    (tmp_path / "main.py").write_text(
        "from asgi_trace import configure\n"
        'tracing = configure("orders", exporter="none")\n'
        'if __name__ == "__main__":\n'
        "    import main\n"
        "    assert main.tracing is tracing\n"
        '    print("ok")\n'
    )
    script = f"""
        import runpy, sys
        sys.path.insert(0, {str(tmp_path)!r})
        runpy.run_path({str(tmp_path / "main.py")!r}, run_name="__main__")
    """
    assert check(script) == "ok\n"


FOREIGN = (
    HEAD
    + """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    class Exporter(SpanExporter):
        def export(self, spans):
            print("exported", *(span.name for span in spans), flush=True)
            return SpanExportResult.SUCCESS
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=60_000))
    trace.set_tracer_provider(provider)
    before = threading.active_count(), signal.getsignal(signal.SIGTERM), logging.root.handlers[:]
    """
)


def test_a_foreign_tracer_provider() -> None:
    """An operator's provider stays: one WARNING, nothing is set, and what is returned flushes and stops nothing."""
    script = (
        FOREIGN
        + """
    tracing = configure("orders", metrics=True, sampler=0.5, endpoint="http://127.0.0.1:1")
    assert before == (threading.active_count(), signal.getsignal(signal.SIGTERM), logging.root.handlers[:])
    assert trace.get_tracer_provider() is tracing.tracer_provider is provider
    assert tracing.enabled and tracing.meter_provider is None
    assert tracing.lost == {"spans": 0, "data points": 0, "logs": 0}
    trace.get_tracer("test").start_span("a").end()
    assert tracing.force_flush()
    trace.get_tracer("test").start_span("b").end()
    tracing.shutdown()
    trace.get_tracer("test").start_span("c").end()
    with configure("other", exporter="none") as again:
        assert again is tracing
    """
    )
    done = run(script)
    assert (done.returncode, done.stdout) == (0, "exported a\nexported b\nexported c\n"), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "WARNING asgi_trace a global tracer provider (opentelemetry.sdk.trace.TracerProvider) is set"
    )


def test_a_foreign_provider_that_hangs() -> None:
    """A flush passes its timeout on and keeps it; a shutdown of a foreign provider waits 4 seconds at most."""
    script = (
        FOREIGN
        + """
    import time
    Exporter.export = lambda self, spans: time.sleep(60)
    tracing = configure("orders")
    trace.get_tracer("test").start_span("a").end()
    began = time.monotonic()
    assert not tracing.force_flush(200)
    assert time.monotonic() - began < 3
    """
    )
    assert run(script).returncode == 0


def test_wrong_arguments_beside_a_foreign_provider() -> None:
    """A mistake in the call is told there, too."""
    script = FOREIGN + "\n    configure(sampler='sometimes')\n"
    assert "ValueError: sampler must be" in run(script).stderr


@pytest.mark.parametrize(("arguments", "warned"), [("metrics=True", True), ("", False)])
def test_a_foreign_meter_provider_alone(arguments: str, warned: bool) -> None:
    """Spans are ours; where metrics were asked for, one WARNING says that they stay with the other provider."""
    script = (
        HEAD
        + f"""
    from opentelemetry.sdk.metrics import MeterProvider
    meters = MeterProvider(shutdown_on_exit=False)
    metrics.set_meter_provider(meters)
    tracing = configure("orders", {arguments})
    assert trace.get_tracer_provider() is tracing.tracer_provider
    assert tracing.meter_provider is metrics.get_meter_provider() is meters
    trace.get_tracer("test").start_span("a").end()
    assert tracing.force_flush()
    """
    )
    with Receiver() as receiver:
        done = run(script, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert done.returncode == 0, done.stderr
        assert [span.name for span in receiver.spans] == ["a"]
    assert done.stderr.startswith("WARNING asgi_trace a global meter provider (open" if warned else "")
    assert len(done.stderr.splitlines()) == warned


def test_a_provider_that_the_environment_names_comes_second() -> None:
    """OTEL_PYTHON_TRACER_PROVIDER only counts when no provider is set; configure() sets one."""
    script = (
        HEAD
        + """
    tracing = configure(exporter="none", metrics="console")
    assert trace.get_tracer_provider() is tracing.tracer_provider
    assert metrics.get_meter_provider() is tracing.meter_provider
    tracing.shutdown()
    """
    )
    check(
        script,
        OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider",
        OTEL_PYTHON_METER_PROVIDER="sdk_meter_provider",
    )
