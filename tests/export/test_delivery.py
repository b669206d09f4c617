"""Delivery over gRPC and over HTTP to real collectors in other processes: every fault is counted, and said once."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from typing import Any

import pytest
from opentelemetry.context import get_current

from asgi_trace._export.exporters import OTLPSpanExporter
from asgi_trace._guard import logger
from asgi_trace._otel.api import SUPPRESS, SUPPRESS_HTTP, is_suppressed

from ..support.collectors import GRPC, HTTP, PROTOCOLS, FaultyCollector, network
from ..support.configuration import read
from ..support.otlp_receiver import closed_port, hanging_port
from ..support.servers import eventually
from ..support.spans import spans

both = pytest.mark.parametrize("protocol", PROTOCOLS)


def exporter(protocol: str, where: FaultyCollector | int, **arguments: Any) -> OTLPSpanExporter:
    """An exporter of spans to a collector, or to a port."""
    endpoint = f"http://127.0.0.1:{where}" if isinstance(where, int) else where.endpoint
    found, problems = read({}, endpoint=endpoint, protocol=protocol, **arguments)
    assert problems == {}
    return OTLPSpanExporter(found)


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    """How long the exporter said that it waits before each further attempt, in seconds."""
    said = [record.args for record in caplog.records if "again in" in record.msg]
    return [values[-1] for values in said if isinstance(values, tuple) and isinstance(values[-1], float)]


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what was logged, without DEBUG."""
    return [record.levelname for record in caplog.records if record.levelno > logging.DEBUG]


@both
@pytest.mark.parametrize("gzip", ["gzip", "none"])
def test_spans_arrive_with_the_headers(protocol: str, gzip: str) -> None:
    """A batch arrives whole, with the configured headers, and names this library as the sender."""
    with FaultyCollector(protocol) as receiver:
        sending = exporter(protocol, receiver, headers={"Api-Key": "a", "k-bin": "b"}, compression=gzip)
        assert sending.ship(spans("a", "b")) == 0
        report = receiver.report()
    assert report["spans"] == ["a", "b"]
    headers = report["headers"][0]
    assert headers["api-key"] == "a"
    assert headers["k-bin"] == (b"b".hex() if protocol == GRPC else "b")
    assert headers["user-agent"].startswith("asgi-trace/")
    if protocol == HTTP:
        assert report["paths"] == ["/v1/traces"]
        assert headers["content-type"] == "application/x-protobuf"
        assert headers.get("content-encoding") == ("gzip" if gzip == "gzip" else None)


AGAIN = [(GRPC, code) for code in ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE")]
AGAIN += [(GRPC, "DATA_LOSS"), *((HTTP, code) for code in ("429", "502", "503", "504", "drop"))]


@pytest.mark.parametrize(("protocol", "code"), AGAIN)
def test_what_may_be_tried_again_is(
    protocol: str, code: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OTLP lets be sent again, and a connection that breaks, costs a pause and no span."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.01)
    caplog.set_level(logging.DEBUG, "asgi_trace")
    with FaultyCollector(protocol, refuse=[code, code]) as receiver:
        assert exporter(protocol, receiver).ship(spans()) == 0
        assert (receiver.requests, receiver.spans) == (3, ["GET"])
    assert pauses(caplog) == [0.01, 0.02]
    assert levels(caplog) == []


FINAL = [(GRPC, code) for code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNIMPLEMENTED")]
FINAL += [(HTTP, code) for code in ("400", "401", "404", "500", "501")]


@pytest.mark.parametrize(("protocol", "code"), FINAL)
def test_what_is_refused_for_good_is_lost_at_once(protocol: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """Any other refusal loses the batch with the first attempt; that is counted, and said with the reason."""
    with FaultyCollector(protocol, always=code, message="no\x1b[31m way") as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(spans("a", "b")) == 2
        assert sending.delivery.lost == 2
        assert receiver.requests == 1
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(f"2 spans did not reach {sending.delivery.collector.target}: ")
    assert code in said
    assert "no [31m way" in said  # as one printable line
    assert record.levelname == "ERROR"


DELAYS: list[tuple[str, dict[str, Any], float | None]] = [
    (GRPC, {"retry_info": [["grpc-status-details-bin", 0.25]]}, 0.25),
    (GRPC, {"retry_info": [["google.rpc.retryinfo-bin", 0.25]]}, 0.25),
    (GRPC, {"retry_info": [["google.rpc.retryinfo-bin", "\x12\x34"], ["grpc-status-details-bin", 0.25]]}, 0.25),
    (GRPC, {"retry_info": [["google.rpc.retryinfo-bin", 0]]}, None),
    (GRPC, {"retry_info": [["grpc-status-details-bin", 0]]}, None),
    (GRPC, {"retry_info": [["grpc-status-details-bin", "not protobuf"]]}, None),
    (HTTP, {"retry_after": "0.25"}, 0.25),
    (HTTP, {"retry_after": "0"}, None),
    (HTTP, {"retry_after": "-5"}, None),
    (HTTP, {"retry_after": "nan"}, None),
    (HTTP, {"retry_after": "soon"}, None),
    (HTTP, {"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
    (HTTP, {"retry_after": "Wed, 99 Foo 99999 07:28:00 GMT"}, None),
]


@pytest.mark.parametrize(("protocol", "faults", "delay"), DELAYS)
def test_the_collectors_delay(
    protocol: str,
    faults: dict[str, Any],
    delay: float | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A delay above 0 that the collector asks for is kept; 0, less and what cannot be read is our own back-off."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.03)
    caplog.set_level(logging.DEBUG, "asgi_trace")
    code = "UNAVAILABLE" if protocol == GRPC else "503"
    with FaultyCollector(protocol, refuse=[code], **faults) as receiver:
        assert exporter(protocol, receiver).ship(spans()) == 0
    assert pauses(caplog) == [0.03 if delay is None else delay]


def test_a_date_to_come_back_at(caplog: pytest.LogCaptureFixture) -> None:
    """Retry-After may be a date; one beyond the timeout ends the attempts."""
    with FaultyCollector(HTTP, refuse=["503"], retry_after="Wed, 21 Oct 2099 07:28:00 GMT") as receiver:
        assert exporter(HTTP, receiver).ship(spans()) == 1
        assert receiver.requests == 1
    assert levels(caplog) == ["ERROR"]


def test_a_delay_makes_a_refusal_retryable() -> None:
    """RESOURCE_EXHAUSTED may be tried again when the collector says when, and only then."""
    with FaultyCollector(
        GRPC, refuse=["RESOURCE_EXHAUSTED"], retry_info=[["grpc-status-details-bin", 0.01]]
    ) as receiver:
        assert exporter(GRPC, receiver).ship(spans()) == 0
        assert receiver.requests == 2


@both
def test_a_collector_that_is_always_in_a_hurry_is_asked_a_few_times(protocol: str) -> None:
    """A delay of 0 with every answer does not become a storm: the back-off grows, and the timeout ends it."""
    code = "UNAVAILABLE" if protocol == GRPC else "503"
    faults = {"retry_info": [["grpc-status-details-bin", 0]]} if protocol == GRPC else {"retry_after": "0"}
    with FaultyCollector(protocol, always=code, **faults) as receiver:
        assert exporter(protocol, receiver, timeout=2.5).ship(spans()) == 1
        assert receiver.requests <= 3


@both
def test_an_outage_is_one_error_and_one_info(
    protocol: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a collector is away, there is one ERROR; once it is back, spans flow and one INFO says so."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 300.0)  # no second attempt within the timeout
    caplog.set_level(logging.INFO, "asgi_trace")
    with closed_port() as port:
        sending = exporter(protocol, port)
        for _ in range(5):
            assert sending.ship(spans()) == 1
    with FaultyCollector(protocol, port=port) as receiver:
        assert sending.ship(spans("back")) == 0
        assert sending.ship(spans("still there")) == 0
        assert receiver.spans == ["back", "still there"]
    assert sending.ship(spans()) == 1
    with FaultyCollector(protocol, port=port):
        assert sending.ship(spans()) == 0
    assert levels(caplog) == ["ERROR", "INFO", "ERROR", "INFO"]
    where = sending.delivery.collector.target
    assert caplog.messages[1] == f"spans reach {where} again; 5 were lost so far"
    assert "is it running?" in caplog.messages[0]


@both
@pytest.mark.parametrize(("rejects", "lost"), [(1, 1), (2, 2), (7, 2), (-1, 0)])
def test_rejected_spans_are_counted(protocol: str, rejects: int, lost: int, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that takes only a part says why; the part is counted, within what was sent."""
    with FaultyCollector(protocol, rejects=rejects) as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(spans("a", "b")) == lost
        assert receiver.requests == 1
    if lost:
        assert caplog.messages[0].startswith(f"{sending.delivery.collector.target} rejected {lost} spans: too old")
    assert len(caplog.messages) == bool(lost)


@both
def test_an_answer_that_cannot_be_read_is_a_success(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """The collector has taken the batch: nothing is sent twice, and nothing is said."""
    with FaultyCollector(protocol, garbage=True) as receiver:
        assert exporter(protocol, receiver).ship(spans()) == 0
        assert receiver.requests == 1
    assert caplog.messages == []


@both
def test_a_timeout_is_kept(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that accepts and never answers costs one timeout, not more."""
    caplog.set_level(logging.DEBUG, "asgi_trace")
    with hanging_port() as port:
        began = time.monotonic()
        assert exporter(protocol, port, timeout=0.3).ship(spans()) == 1
        assert 0.3 <= time.monotonic() - began < 5
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # and no word of another attempt


def test_an_answer_byte_by_byte_is_cut_off() -> None:
    """A collector that sends a byte now and then does not hold the exporter beyond its timeout."""
    with FaultyCollector(HTTP, always="500", drip=0.2) as receiver:
        began = time.monotonic()
        exporter(HTTP, receiver, timeout=1.0).ship(spans())
        assert time.monotonic() - began < 6


def test_an_endless_answer_is_not_read() -> None:
    """Of an answer no more than 64 KiB are read, and the next batch has a connection of its own."""
    with FaultyCollector(HTTP, huge=30_000_000) as receiver:
        sending = exporter(HTTP, receiver)
        assert [sending.ship(spans("a")), sending.ship(spans("b"))] == [0, 0]
        assert receiver.spans == ["a", "b"]


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """Headers with credentials go nowhere else: the batch is lost, and the remedy is said."""
    with FaultyCollector(HTTP) as elsewhere, FaultyCollector(HTTP, always=code) as asked:
        asked.set(location=f"{elsewhere.endpoint}/v1/traces")
        assert exporter(HTTP, asked, headers={"api-key": "a"}).ship(spans()) == 1
        assert (asked.requests, elsewhere.requests) == (1, 0)
    assert "a redirect is not followed: set the endpoint to the address where the collector is" in caplog.text


@both
def test_a_silent_connection_is_replaced(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """After a timeout the next batch goes over a new connection, since nothing may come back on the old one."""
    with FaultyCollector(protocol) as receiver, network(receiver.port) as between:
        sending = exporter(protocol, between.port, timeout=0.5)
        assert sending.ship(spans("a")) == 0
        between.silence()
        assert sending.ship(spans("lost")) == 1
        sending.ship(spans("b"))
        assert sending.ship(spans("c")) == 0
        assert receiver.spans[0] == "a"
        assert receiver.spans[-1] == "c"
        assert between.connections >= 2
    assert levels(caplog)[0] == "ERROR"


@both
def test_a_caller_that_waits_allows_one_attempt(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """In a hurry, a collector that has never answered is asked once; one that has answered is asked again."""
    caplog.set_level(logging.DEBUG, "asgi_trace")
    with closed_port() as port:
        sending = exporter(protocol, port)
        sending.delivery.hurry()
        assert sending.ship(spans()) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # and no word of another attempt
    with FaultyCollector(protocol) as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(spans()) == 0
        receiver.set(refuse=["UNAVAILABLE" if protocol == GRPC else "503"])
        sending.delivery.hurry()
        assert sending.ship(spans()) == 0
        assert receiver.requests == 3


@both
def test_a_hurry_ends_the_pause_between_attempts(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """An export that waits for its next attempt makes it at once when a caller begins to wait for it."""
    caplog.set_level(logging.DEBUG, "asgi_trace")
    with FaultyCollector(protocol, **_busy(protocol, 300)) as receiver:
        sending = exporter(protocol, receiver, timeout=600.0)
        outcome: list[int] = []
        thread = threading.Thread(target=lambda: outcome.append(sending.ship(spans())))
        thread.start()
        eventually(lambda: pauses(caplog) == [300.0], "the pause")
        sending.delivery.hurry()
        thread.join(30)
        assert outcome == [0]


@both
def test_a_hurry_just_before_the_pause_leaves_it_out(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hurry that comes after the next attempt was decided upon, and before the pause begins, is not lost."""
    with FaultyCollector(protocol, **_busy(protocol, 300)) as receiver:
        sending = exporter(protocol, receiver, timeout=600.0)
        monkeypatch.setattr(logger, "debug", lambda *values: sending.delivery.hurry())
        thread = threading.Thread(target=sending.ship, args=(spans(),), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        assert receiver.spans == ["GET"]


def _busy(protocol: str, seconds: int) -> dict[str, Any]:
    """A collector that refuses once and asks for a pause."""
    if protocol == GRPC:
        return {"refuse": ["UNAVAILABLE"], "retry_info": [["grpc-status-details-bin", seconds]]}
    return {"refuse": ["503"], "retry_after": str(seconds)}


@both
@pytest.mark.parametrize("where", ["hanging", "pausing"])
def test_shutdown_cuts_off_what_is_under_way(
    protocol: str, where: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that waits for an answer, or for its next attempt, ends at once; later ones send nothing."""
    caplog.set_level(logging.DEBUG, "asgi_trace")
    faults = {"hang": True} if where == "hanging" else _busy(protocol, 300)
    with FaultyCollector(protocol, **faults) as receiver:
        sending = exporter(protocol, receiver, timeout=600.0)
        thread = threading.Thread(target=sending.ship, args=(spans(),))
        thread.start()
        receiver.wait_for_requests(1)
        if where == "pausing":
            eventually(lambda: pauses(caplog) == [300.0], "the pause")
        sending.shutdown()
        thread.join(30)
        assert not thread.is_alive()
        assert sending.ship(spans()) == 1
        assert receiver.requests == 1
    assert sending.delivery.lost == 2
    assert levels(caplog) == ["ERROR"]


@both
def test_whatever_is_raised_inside_a_send_is_a_loss(
    protocol: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of a library, or of ours, costs its batch: counted, said once, and the next batch is sent."""
    with FaultyCollector(protocol) as receiver:
        sending = exporter(protocol, receiver)
        sender: Any = sending.delivery._sender
        good = sender.send
        monkeypatch.setattr(sender, "send", lambda *values: 1 / 0)
        assert [sending.ship(spans()), sending.ship(spans("a", "b"))] == [1, 2]
        monkeypatch.setattr(sender, "send", good)
        assert sending.ship(spans("good")) == 0
    assert sending.delivery.lost == 3
    assert re.search(r"1 spans did not reach .*ZeroDivisionError", caplog.messages[0])
    assert levels(caplog)[:1] == ["ERROR"]


@both
def test_what_an_exporter_sends_is_not_traced(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request is sent, the context silences every instrumentation, ours and that of other libraries."""
    with FaultyCollector(protocol) as receiver:
        sending = exporter(protocol, receiver)
        sender: Any = sending.delivery._sender
        good, found = sender.send, []

        def send(*values: Any) -> Any:
            context = get_current()
            found.append([bool(context.get(key)) for key in (SUPPRESS, SUPPRESS_HTTP)])
            return good(*values)

        monkeypatch.setattr(sender, "send", send)
        assert sending.ship(spans()) == 0
    assert found == [[True, True]]
    assert not is_suppressed(get_current())


def test_a_wrong_protocol_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    """HTTP to a gRPC port, and the other way around, says on which port the other protocol usually is."""
    with FaultyCollector(GRPC) as receiver:
        exporter(HTTP, receiver, timeout=0.9).ship(spans())
    assert "does it speak OTLP/HTTP on this port?" in caplog.messages[-1]
    with FaultyCollector(HTTP) as receiver:
        exporter(GRPC, receiver, timeout=0.9).ship(spans())
    assert "OTLP/HTTP on 4318" in caplog.messages[-1]
