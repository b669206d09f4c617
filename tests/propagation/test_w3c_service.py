"""W3C Trace Context Level 2, held against a live service under both of uvicorn's HTTP parsers.

Numbers are the sections of https://www.w3.org/TR/trace-context-2/. The cases are those of the public validation suite
at its strictest, and one for each rule that it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NoOpTracerProvider, TraceFlags, TracerProvider

from ..support.w3c_service import Harness, conformance_app, values_of

T, S = "12345678901234567890123456789012", "1234567890123456"
PARENT = f"00-{T}-{S}-01"
PARSERS = ("h11", "httptools")
RANDOM: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)  # an SDK older than Level 2 neither sets nor copies the bit
ROOT, UNSAMPLED_ROOT = f"{1 | RANDOM:02x}", f"{RANDOM:02x}"


class Case(NamedTuple):
    """What a caller sends, and what must come out of it; `state` is None where no `tracestate` may be sent."""

    rule: str
    headers: list[tuple[str, str]]
    kept: bool
    state: str | None = None


def parent(value: str, *, kept: bool) -> Case:
    return Case("", [("traceparent", value)], kept)


def state(*lines: str, out: str | None) -> Case:
    return Case("", [("traceparent", PARENT), *(("tracestate", line) for line in lines)], True, out)


KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE_CHARACTERS = "".join(map(chr, [*range(0x20, 0x2C), *range(0x2D, 0x3D), *range(0x3E, 0x7F)]))
EVERY_CHARACTER = f"{KEY_CHARACTERS}={VALUE_CHARACTERS}"
EVERY_CHARACTER_WITH_AT = f"{KEY_CHARACTERS}@a-z0-9_-*/={VALUE_CHARACTERS}"
LONGEST = ",".join([f"k{n:02d}={'v' * 251}" for n in range(32)]) + "w"
MEMBERS = [f"bar{n:02d}={n:02d}" for n in range(1, 34)]
FUTURE = "what-the-future-will-be-like"

CASES = {
    # 3.2.1, 3.3.1: one name each, in any case of letters
    "nothing sent": Case("3.2", [], False),
    "traceparent alone": parent(PARENT, kept=True),
    "two different traceparents": Case(
        "3.2.2", [("traceparent", f"00-{T[:-1]}1-{S}-01"), ("traceparent", PARENT)], False
    ),
    "two equal traceparents": Case("3.2.2", [("traceparent", PARENT), ("traceparent", PARENT)], False),
    "a junk traceparent and a good one": Case("3.2.2", [("traceparent", "junk"), ("traceparent", PARENT)], False),
    "two traceparents and tracestate": Case(
        "3.3", [("traceparent", PARENT), ("TraceParent", PARENT), ("tracestate", "foo=1")], False
    ),
    "two traceparents folded into one": parent(f"{PARENT},{PARENT}", kept=False),
    "two folded ones of a later version": parent(f"cc-{T}-{S}-01-x,cc-{T}-{S}-01", kept=False),
    "trace-parent": Case("3.2.1", [("trace-parent", PARENT)], False),
    "trace.parent": Case("3.2.1", [("trace.parent", PARENT)], False),
    "TraceParent": Case("3.2.1", [("TraceParent", PARENT)], True),
    "TrAcEpArEnT": Case("3.2.1", [("TrAcEpArEnT", PARENT)], True),
    "TRACEPARENT": Case("3.2.1", [("TRACEPARENT", PARENT)], True),
    # 3.2.2.1, 3.2.4: versions
    "00 and a dot": parent(f"{PARENT}.", kept=False),
    "00 and a dash": parent(f"{PARENT}-", kept=False),
    "00 and more": parent(f"{PARENT}-{FUTURE}", kept=False),
    "cc": parent(f"cc-{T}-{S}-01", kept=True),
    "cc and a dash": parent(f"cc-{T}-{S}-01-", kept=True),
    "cc and more": parent(f"cc-{T}-{S}-01-{FUTURE}", kept=True),
    "cc and a dot": parent(f"cc-{T}-{S}-01.{FUTURE}", kept=False),
    "cc with too little": parent(f"cc-{T}-{S}-0", kept=False),
    "cc and tracestate": Case("3.3.3", [("traceparent", f"cc-{T}-{S}-01-x"), ("tracestate", "foo=1")], True, "foo=1"),
    "ff": parent(f"ff-{T}-{S}-01", kept=False),
    "ff and more": parent(f"ff-{T}-{S}-01-x", kept=False),
    "FF": parent(f"FF-{T}-{S}-01", kept=False),
    ".0": parent(f".0-{T}-{S}-01", kept=False),
    "0.": parent(f"0.-{T}-{S}-01", kept=False),
    "version of three": parent(f"000-{T}-{S}-01", kept=False),
    "version of four": parent(f"0000-{T}-{S}-01", kept=False),
    "version of one": parent(f"0-{T}-{S}-01", kept=False),
    "no version": parent(f"{T}-{S}-01", kept=False),
    "empty": parent("", kept=False),
    # 3.2.2.3: trace-id
    "trace-id zero": parent(f"00-{'0' * 32}-{S}-01", kept=False),
    "trace-id with a dot in front": parent(f"00-.{T[1:]}-{S}-01", kept=False),
    "trace-id with a dot at the end": parent(f"00-{T[:-1]}.-{S}-01", kept=False),
    "trace-id in capitals": parent(f"00-{'A' * 32}-{S}-01", kept=False),
    "trace-id with an underscore": parent(f"00-1_{T[2:]}-{S}-01", kept=False),
    "trace-id with 0x": parent(f"00-0x{T[2:]}-{S}-01", kept=False),
    "trace-id too long": parent(f"00-{T}3-{S}-01", kept=False),
    "trace-id too short": parent(f"00-{T[:-1]}-{S}-01", kept=False),
    # 3.2.2.4: parent-id
    "parent-id zero": parent(f"00-{T}-{'0' * 16}-01", kept=False),
    "parent-id with a dot in front": parent(f"00-{T}-.{S[1:]}-01", kept=False),
    "parent-id with a dot at the end": parent(f"00-{T}-{S[:-1]}.-01", kept=False),
    "parent-id in capitals": parent(f"00-{T}-{'B' * 16}-01", kept=False),
    "parent-id too long": parent(f"00-{T}-{S}7-01", kept=False),
    "parent-id too short": parent(f"00-{T}-{S[:-1]}-01", kept=False),
    # 3.2.2.5: flags
    "flags .0": parent(f"00-{T}-{S}-.0", kept=False),
    "flags 0.": parent(f"00-{T}-{S}-0.", kept=False),
    "flags in capitals": parent(f"00-{T}-{S}-0A", kept=False),
    "flags too long": parent(f"00-{T}-{S}-001", kept=False),
    "flags too short": parent(f"00-{T}-{S}-1", kept=False),
    # whitespace around a field value is not part of it
    "a space before": parent(f" {PARENT}", kept=True),
    "a tab before": parent(f"\t{PARENT}", kept=True),
    "a space behind": parent(f"{PARENT} ", kept=True),
    "a tab behind": parent(f"{PARENT}\t", kept=True),
    "both on both sides": parent(f"\t {PARENT} \t", kept=True),
    "a space within": parent(f"00-{T} -{S}-01", kept=False),
    # 3.3: tracestate follows traceparent
    "tracestate alone": Case("3.3", [("tracestate", "foo=1")], False),
    "tracestate beside a bad traceparent": Case(
        "3.3", [("traceparent", f"00-{'0' * 32}-{S}-01"), ("tracestate", "foo=1")], False
    ),
    "both": state("foo=1,bar=2", out="foo=1,bar=2"),
    "tracestate first": Case("3.3", [("tracestate", "foo=1"), ("traceparent", PARENT)], True, "foo=1"),
    "trace-state": Case("3.3.1", [("traceparent", PARENT), ("trace-state", "foo=1")], True),
    "trace.state": Case("3.3.1", [("traceparent", PARENT), ("trace.state", "foo=1")], True),
    "TraceState": Case("3.3.1", [("traceparent", PARENT), ("TraceState", "foo=1")], True, "foo=1"),
    "TrAcEsTaTe": Case("3.3.1", [("traceparent", PARENT), ("TrAcEsTaTe", "foo=1")], True, "foo=1"),
    "TRACESTATE": Case("3.3.1", [("traceparent", PARENT), ("TRACESTATE", "foo=1")], True, "foo=1"),
    # 3.3.1.1: empty members, several headers, whitespace
    "empty tracestate": state("", out=None),
    "blank tracestate": state(" \t ", out=None),
    "empty one behind": state("foo=1", "", out="foo=1"),
    "empty one in front": state("", "foo=1", out="foo=1"),
    "empty members": state("foo=1,,bar=2, ,\t,", out="foo=1,bar=2"),
    "three headers": state("foo=1,bar=2", "rojo=1,congo=2", "baz=3", out="foo=1,bar=2,rojo=1,congo=2,baz=3"),
    "three headers in three cases": Case(
        "3.3.1.1",
        [("tracestate", "a=1"), ("traceparent", PARENT), ("TraceState", "b=2"), ("x", "y"), ("TRACESTATE", "c=3")],
        True,
        "a=1,b=2,c=3",
    ),
    "space and tab around members": state("foo=1 \t , \t bar=2, \t baz=3", out="foo=1,bar=2,baz=3"),
    "tab and space around members": state("foo=1\t \t,\t \tbar=2,\t \tbaz=3", out="foo=1,bar=2,baz=3"),
    "space before tracestate": state(" foo=1", out="foo=1"),
    "tab before tracestate": state("\tfoo=1", out="foo=1"),
    "space behind tracestate": state("foo=1 ", out="foo=1"),
    "tab behind tracestate": state("foo=1\t", out="foo=1"),
    "both around tracestate": state("\t foo=1 \t", out="foo=1"),
    "32 members": state(*(",".join(MEMBERS[n : n + 8]) for n in range(0, 32, 8)), out=",".join(MEMBERS[:32])),
    "32 members and empty ones": state(",".join(MEMBERS[:32]) + ",,", out=",".join(MEMBERS[:32])),
    "33 members": state(",".join(MEMBERS), out=None),
    # 3.3.1.3.1: keys of Level 2
    "every character": state(EVERY_CHARACTER, out=EVERY_CHARACTER),
    "every character with @": state(EVERY_CHARACTER_WITH_AT, out=EVERY_CHARACTER_WITH_AT),
    "a digit in front": state("1foo=1,bar=2", out="1foo=1,bar=2"),
    "nothing behind @": state("foo@=1,bar=2", out="foo@=1,bar=2"),
    "two @": state("foo@@bar=1,bar=2", out="foo@@bar=1,bar=2"),
    "three parts": state("foo@bar@baz=1,bar=2", out="foo@bar@baz=1,bar=2"),
    "a long tenant": state(f"foo=1,{'t' * 242}@v=1", out=f"foo=1,{'t' * 242}@v=1"),
    "a long system": state(f"foo=1,t@{'v' * 15}=1", out=f"foo=1,t@{'v' * 15}=1"),
    "@ in front": state("@foo=1,bar=2", out=None),
    "_ in front": state("_foo=1,bar=2", out=None),
    "a space in the key": state("foo =1", out=None),
    "a capital in the key": state("FOO=1", out=None),
    "a dot in the key": state("foo.bar=1", out=None),
    "no key": state("=1,bar=2", out=None),
    "a key of 256": state("foo=1", f"{'z' * 256}=1", out=f"foo=1,{'z' * 256}=1"),
    "a key of 257": state("foo=1", f"{'z' * 257}=1", out=None),
    # 3.3.1.3.2: values
    "a second =": state("foo=bar=baz", out=None),
    "no value": state("foo=,bar=3", out=None),
    "no =": state("foo,bar=3", out=None),
    "a tab in the value": state("foo=a\tb", out=None),
    "spaces in front of the value": state("foo=  1", out="foo=  1"),
    "a value of 256": state(f"foo={'v' * 256}", out=f"foo={'v' * 256}"),
    "a value of 257": state(f"foo={'v' * 257}", out=None),
    # 3.3.1.5: limits
    "512 characters": state(f"foo={'v' * 252},bar={'w' * 251}", out=f"foo={'v' * 252},bar={'w' * 251}"),
    "8,192 characters": state(LONGEST, out=",".join(LONGEST.split(",")[:2])),  # what is sent has at most 512
}  # fmt: skip

DUPLICATES = {
    "one member twice": ["foo=1,foo=1"],
    "one key twice": ["foo=1,foo=2"],
    "one member in two headers": ["foo=1", "foo=1"],
    "one key in two headers": ["foo=1", "foo=2"],
    "one key twice among others": ["a=1,foo=1", "b=2,foo=2,c=3"],
}


@dataclass
class Services:
    """The port of each service by its kind and HTTP parser."""

    harness: Harness
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def ask(self, kind: str, parser: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return self.harness.ask(self.ports[kind, parser], headers)[0]


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    sdk = SDKTracerProvider(shutdown_on_exit=False)
    unsampled: TracerProvider = SDKTracerProvider(ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    with Harness() as harness:
        running = Services(harness)
        for parser in PARSERS:
            for kind, app in {
                "sdk": conformance_app(sdk),
                "unsampled": conformance_app(unsampled),
                "none": conformance_app(NoOpTracerProvider()),
                "untrusting": conformance_app(sdk, trust=False),
                "untrusting and none": conformance_app(NoOpTracerProvider(), trust=False),
                "reticent": conformance_app(sdk, propagate_to="elsewhere.test"),
            }.items():
                running.ports[kind, parser] = harness.serve(app, parser)
        yield running


def read(headers: list[tuple[str, str]]) -> tuple[str, str, str]:
    """The ids and flags of the one `traceparent` that was sent, whose form is checked here once for all."""
    assert [name for name, _ in headers if name.lower() == "traceparent"] == ["traceparent"]
    (value,) = values_of(headers, "traceparent")
    version, trace_id, span_id, flags = value.split("-")
    assert (version, len(trace_id), len(span_id), len(flags)) == ("00", 32, 16, 2)
    assert int(trace_id, 16)
    assert int(span_id, 16)
    assert value == value.lower()
    return trace_id, span_id, flags


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_participant_continues_exactly_the_valid_contexts(services: Services, parser: str, case: Case) -> None:
    """With an SDK, a valid caller's trace-id and state go on under a new parent-id; all else starts a new trace."""
    sent = services.ask("sdk", parser, case.headers)
    trace_id, span_id, flags = read(sent)
    assert (trace_id == T) is case.kept
    assert span_id != S
    assert flags == ("01" if case.kept else ROOT)
    assert values_of(sent, "tracestate") == ([] if case.state is None else [case.state])


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_service_without_sdk_forwards_exactly_the_valid_contexts(services: Services, parser: str, case: Case) -> None:
    """Without an SDK, a valid caller's context leaves as it came (3.4), and no other one leaves (4.2)."""
    sent = services.ask("none", parser, case.headers)
    assert values_of(sent, "traceparent") == ([PARENT] if case.kept else [])
    assert values_of(sent, "tracestate") == ([] if case.state is None else [case.state])


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("lines", DUPLICATES.values(), ids=list(DUPLICATES))
def test_repeated_keys_cost_nothing_else(services: Services, parser: str, lines: list[str]) -> None:
    """3.3.1.4: a participant sends the first member of each key; who forwards sends all, as they came."""
    headers = [("traceparent", PARENT), *(("tracestate", line) for line in lines)]
    members = ",".join(lines).split(",")
    first = {member.partition("=")[0]: member for member in reversed(members)}
    sent = services.ask("sdk", parser, headers)
    assert read(sent)[0] == T
    assert values_of(sent, "tracestate") == [
        ",".join(m for n, m in enumerate(members) if m in first.values() and m not in members[:n])
    ]
    assert values_of(services.ask("none", parser, headers), "tracestate") == [",".join(members)]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("flags", "sent"),
    [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("04", 0), ("09", 1), ("fc", 0), ("ff", 3)],
)
@pytest.mark.parametrize("version", ["00", "cc"])
def test_flags_are_bits(services: Services, parser: str, version: str, flags: str, sent: int) -> None:
    """3.2.2.5: the sampled and the random bit are read and copied, the others are ignored and sent as zero."""
    headers = [("traceparent", f"{version}-{T}-{S}-{flags}")]
    assert read(services.ask("sdk", parser, headers))[2] == f"{sent & (1 | RANDOM):02x}"
    assert read(services.ask("unsampled", parser, headers))[2] == f"{sent & (1 | RANDOM):02x}"
    assert values_of(services.ask("none", parser, headers), "traceparent") == [f"00-{T}-{S}-{sent:02x}"]


@pytest.mark.parametrize("parser", PARSERS)
def test_an_unsampled_trace_is_sent_on(services: Services, parser: str) -> None:
    """Context leaves with its state also where nothing is recorded (3.2.2.5.1)."""
    sent = services.ask("unsampled", parser, [])
    assert read(sent)[2] == UNSAMPLED_ROOT
    sent = services.ask("unsampled", parser, [("traceparent", f"00-{T}-{S}-00"), ("tracestate", "1@=x")])
    trace_id, span_id, flags = read(sent)
    assert (trace_id, flags) == (T, "00")
    assert span_id != S
    assert values_of(sent, "tracestate") == ["1@=x"]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("headers", "kept"),
    [([("traceparent", PARENT)], True), ([], False), ([("traceparent", f"00-{'0' * 32}-{S}-01")], False)],
    ids=["valid", "missing", "illegal"],
)
def test_every_call_is_an_operation_of_its_own(
    services: Services, parser: str, headers: list[tuple[str, str]], kept: bool
) -> None:
    """Several calls within one request share its trace and each have a parent-id of their own (3.4)."""
    calls = [read(sent) for sent in services.harness.ask(services.ports["sdk", parser], headers, calls=3)]
    trace_ids, span_ids = {trace_id for trace_id, _, _ in calls}, {span_id for _, span_id, _ in calls}
    assert len(trace_ids) == 1
    assert (trace_ids == {T}) is kept
    assert len(span_ids | {S}) == 4


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", ["sdk", "none"])
def test_baggage_leaves_as_it_came(services: Services, parser: str, kind: str) -> None:
    """Several `baggage` headers are one list, and properties, spaces and pluses reach the next service unharmed."""
    lines = ["user=al%20ice;private;ttl=5, sum=1+1", "", "empty=,pct=%2B", "user=second"]
    headers = [("traceparent", PARENT), *(("Baggage", line) for line in lines)]
    sent = services.ask(kind, parser, headers)
    assert values_of(sent, "baggage") == ["user=al%20ice;private;ttl=5,sum=1+1,empty=,pct=%2B,user=second"]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", ["sdk", "none"])
@pytest.mark.parametrize("traceparents", [[], ["junk"], [PARENT, PARENT]], ids=["none", "junk", "two"])
def test_baggage_needs_no_traceparent(services: Services, parser: str, kind: str, traceparents: list[str]) -> None:
    """Baggage is independent of the trace: it survives a missing, a bad and a repeated `traceparent`."""
    headers = [*(("traceparent", value) for value in traceparents), ("baggage", "a=1"), ("tracestate", "foo=1")]
    sent = services.ask(kind, parser, headers)
    assert values_of(sent, "baggage") == ["a=1"]
    assert values_of(sent, "tracestate") == []
    if kind == "sdk":
        assert read(sent)[0] != T
    else:
        assert values_of(sent, "traceparent") == []


@pytest.mark.parametrize("parser", PARSERS)
def test_baggage_of_64_members_and_8192_bytes_passes_whole(services: Services, parser: str) -> None:
    """W3C Baggage, limits: 64 members and 8,192 bytes must be propagated."""
    members = [f"key{n:02d}={'v' * 121}" for n in range(64)]
    baggage = ",".join(members)
    baggage += "w" * (8192 - len(baggage))
    assert values_of(services.ask("sdk", parser, [("baggage", baggage)]), "baggage") == [baggage]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", ["untrusting", "untrusting and none"])
def test_nothing_of_an_untrusted_caller_goes_on(services: Services, parser: str, kind: str) -> None:
    """`trust=False`: a new trace (or none without an SDK), no state, no baggage."""
    sent = services.ask(kind, parser, [("traceparent", PARENT), ("tracestate", "foo=1"), ("baggage", "a=1")])
    assert values_of(sent, "tracestate") == []
    assert values_of(sent, "baggage") == []
    if kind == "untrusting":
        trace_id, _, flags = read(sent)
        assert (trace_id != T, flags) == (True, ROOT)
    else:
        assert values_of(sent, "traceparent") == []


@pytest.mark.parametrize("parser", PARSERS)
def test_nothing_is_sent_where_propagate_to_forbids(services: Services, parser: str) -> None:
    """A host outside `propagate_to` receives neither trace context nor baggage."""
    sent = services.ask("reticent", parser, [("traceparent", PARENT), ("tracestate", "foo=1"), ("baggage", "a=1")])
    assert {name.lower() for name, _ in sent}.isdisjoint({"traceparent", "tracestate", "baggage"})
