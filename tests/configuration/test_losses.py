"""Nothing is lost in silence: `Tracing.lost`, `force_flush()` and `shutdown()`, whatever the exporter."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Sequence
from io import StringIO
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from asgi_trace._configuration.tracing import Tracing
from asgi_trace._otel.stop import STOP_SECONDS

from ..support.collectors import GRPC, PROTOCOLS, FaultyCollector
from ..support.configuration import built
from ..support.otlp_receiver import closed_port, hanging_port
from ..support.servers import eventually
from ..support.subprocess import run

both = pytest.mark.parametrize("protocol", PROTOCOLS)
MARGIN = 20.0
"""What a busy machine may add to a stop that is bounded, in seconds; without a bound it would last for minutes."""


class Exporter(SpanExporter):
    """An exporter of a user's own. `answers` are what its exports return, or raise; the last one stays."""

    def __init__(self, *answers: Any, hang: str = "", flushed: object = True) -> None:
        self.names: list[str] = []
        self.shut_down = 0
        self.released = threading.Event()
        self._answers = list(answers) or [SpanExportResult.SUCCESS]
        self._hang = hang
        self._flushed = flushed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._hang == "export":
            self.released.wait()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        self.names += [span.name for span in spans]
        return answer  # type: ignore[no-any-return]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._flushed  # type: ignore[return-value]

    def shutdown(self) -> None:
        self.shut_down += 1
        if self._hang == "shutdown":
            self.released.wait()


def record(tracing: Tracing, *names: str) -> None:
    """End spans of these names."""
    for name in names:
        tracing.tracer_provider.get_tracer("test").start_span(name).end()


def none() -> dict[str, int]:
    """No losses."""
    return {"spans": 0, "logs": 0, "data points": 0}


@both
def test_a_burst_is_not_lost(protocol: str) -> None:
    """20,000 spans at once, to a collector that takes a quarter of a second an answer, all arrive with the defaults."""
    with (
        FaultyCollector(protocol, delay=0.25) as receiver,
        built(exporter="otlp", endpoint=receiver.endpoint, protocol=protocol) as tracing,
    ):
        record(tracing, *map(str, range(20_000)))
        assert tracing.force_flush(60_000)
        assert tracing.lost == none()
        assert receiver.spans == [str(number) for number in range(20_000)]
        assert receiver.requests < 20


@both
def test_a_steady_stream_to_a_slow_collector_is_not_lost(protocol: str) -> None:
    """3,000 spans a second for three seconds are not lost either: batches grow, and the queue does not fill up."""
    with FaultyCollector(protocol, delay=0.25) as receiver:
        with built(exporter="otlp", endpoint=receiver.endpoint, protocol=protocol) as tracing:
            for _ in range(30):
                record(tracing, *(["a"] * 300))
                time.sleep(0.1)
            assert tracing.force_flush(60_000)
            assert tracing.lost == none()
        assert len(receiver.spans) == 9000


def test_a_bound_that_was_set_is_hard(caplog: pytest.LogCaptureFixture) -> None:
    """max_queue_size and max_export_batch_size are never exceeded; what that costs is counted, and said once."""
    with FaultyCollector(GRPC, delay=0.2) as receiver:
        with built(
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "40"},
            exporter="otlp",
            endpoint=receiver.endpoint,
        ) as tracing:
            record(tracing, *(["a"] * 1000))
            assert not tracing.force_flush(60_000)
            lost = tracing.lost["spans"]
            assert lost >= 1000 - 100 - 2 * 40
            assert tracing.force_flush(60_000)
        assert len(receiver.spans) == 1000 - lost
        assert max(receiver.report()["sizes"]) < 40 * 200
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in warning


@pytest.mark.parametrize(
    ("answers", "lost"),
    [
        ([SpanExportResult.SUCCESS], 0),
        ([None], 0),
        ([SpanExportResult.FAILURE], 2),
        ([OSError("no")], 2),
        ([SystemExit(1)], 2),
    ],
)
def test_an_exporter_of_ones_own(answers: list[Any], lost: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its word counts: a failure, and whatever it raises, is a loss, said once, and the flush is False."""
    exporter = Exporter(*answers, SpanExportResult.SUCCESS)
    with built(exporter=exporter) as tracing:
        record(tracing, "a", "b")
        assert tracing.force_flush(60_000) is (lost == 0)
        assert tracing.lost == none() | {"spans": lost}
        record(tracing, "c")
        assert tracing.force_flush(60_000)
    assert exporter.names[-1] == "c"
    assert exporter.shut_down == 1
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == bool(lost)


def test_an_exporter_that_keeps_something_back() -> None:
    """An exporter whose own flush says False has not sent everything."""
    with built(exporter=Exporter(flushed=False)) as tracing:
        record(tracing, "a")
        assert not tracing.force_flush(60_000)


def test_every_exporter_counts_for_itself() -> None:
    """Two exporters that lose the same span are two losses; one that works does not hide another that does not."""
    failing = [Exporter(SpanExportResult.FAILURE), Exporter(SpanExportResult.FAILURE)]
    good = Exporter()
    with built(exporter=[*failing, good]) as tracing:
        record(tracing, "a")
        assert not tracing.force_flush(60_000)
        assert tracing.lost == none() | {"spans": 2}
        assert good.names == ["a"]


def test_a_console_that_is_closed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Spans and metrics that cannot be printed are counted, and said once."""
    output = StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    with built(exporter="console", metrics="console") as tracing:
        record(tracing, "a")
        assert tracing.lost == none()
        output.close()
        record(tracing, "b", "c")
        assert tracing.lost["spans"] == 2
        assert not tracing.force_flush(60_000)
        assert tracing.force_flush(60_000)
    assert [record.levelname for record in caplog.records if record.name == "asgi_trace"] == ["ERROR"]


def test_what_readers_and_processors_of_ones_own_lose_is_not_known() -> None:
    """A MetricReader and a SpanProcessor that are passed in count nothing."""

    class Losing(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            pass

    with built(metrics=InMemoryMetricReader(), span_processors=[Losing()]) as tracing:
        record(tracing, "a")
        assert tracing.force_flush(60_000)
        assert tracing.lost == none()


@both
def test_a_dead_collector(protocol: str) -> None:
    """Spans and data points that never arrive are counted as what they are."""
    with closed_port() as port:
        tracing = built(exporter="otlp", metrics="otlp", endpoint=f"http://127.0.0.1:{port}", protocol=protocol)
        record(tracing, "a", "b")
        meters: Any = tracing.meter_provider
        meters.get_meter("test").create_counter("orders").add(1)
        assert not tracing.force_flush(60_000)
        assert tracing.lost == {"spans": 2, "logs": 0, "data points": 1}
        tracing.shutdown()


@both
def test_what_a_stop_leaves_behind(protocol: str) -> None:
    """Spans that wait or are under way when the time to stop is over are lost, and counted."""
    with hanging_port() as port:
        tracing = built(exporter="otlp", endpoint=f"http://127.0.0.1:{port}", protocol=protocol)
        record(tracing, *(["a"] * 600))
        began = time.monotonic()
        tracing.shutdown(200)
        assert time.monotonic() - began < MARGIN
        assert tracing.lost == none() | {"spans": 600}
        record(tracing, "late")
        assert tracing.lost == none() | {"spans": 601}


@pytest.mark.parametrize("hang", ["export", "shutdown"])
@pytest.mark.parametrize("stop", ["tracing", "provider"])
def test_an_exporter_that_hangs(hang: str, stop: str) -> None:
    """Whatever hangs, all calls of shutdown() wait 4 seconds in all; what was not exported is lost."""
    exporter = Exporter(hang=hang)
    tracing = built(exporter=exporter)
    provider: Any = tracing.tracer_provider
    record(tracing, "a", "b")
    began = time.monotonic()
    for _ in range(3):
        (tracing if stop == "tracing" else provider).shutdown()
    tracing.shutdown()
    assert STOP_SECONDS - 0.1 <= time.monotonic() - began < STOP_SECONDS + MARGIN
    assert tracing.lost == none() | {"spans": 2 if hang == "export" else 0}
    exporter.released.set()


def test_a_second_shutdown_waits_for_the_first() -> None:
    """Two threads that stop at the same time both return when everything has been sent."""
    exporter = Exporter(hang="export")
    tracing = built(exporter=exporter)
    record(tracing, "a")
    first = threading.Thread(target=tracing.shutdown)
    first.start()
    eventually(lambda: tracing.stopped, "the stop")
    threading.Timer(0.3, exporter.released.set).start()
    tracing.shutdown()
    assert exporter.names == ["a"]
    first.join(60)


def test_a_signal_handler_in_the_middle_of_a_stop() -> None:
    """A SIGTERM while shutdown() waits, as at the end of a Pool's worker, waits for it and loses nothing."""
    script = """
        import os, signal, threading, time
        from opentelemetry import trace
        from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
        from asgi_trace import configure
        class Slow(SpanExporter):
            def export(self, spans):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.5)
                os.write(1, b"exported")
                return SpanExportResult.SUCCESS
        tracing = configure(exporter=Slow())
        trace.get_tracer("test").start_span("a").end()
        tracing.shutdown()
        os.write(1, b"not reached")
    """
    done = run(script)
    assert (done.returncode, done.stdout, done.stderr) == (-15, "exported", "")
