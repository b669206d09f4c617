"""The grammar of W3C Trace Context Level 2. Numbers are the sections of https://www.w3.org/TR/trace-context-2/."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from asgi_trace._propagation import traceparent
from asgi_trace._propagation.traceparent import (
    format_traceparent,
    format_tracestate,
    parse_traceparent,
    parse_tracestate,
    read_span_context,
)
from asgi_trace._propagation.tracestate import Level2TraceState
from asgi_trace.testing import capture_spans

T, S = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACE_ID, SPAN_ID = int(T, 16), int(S, 16)
VALID = f"00-{T}-{S}-01".encode()

ACCEPTED = [
    # section, value, flags
    ("3.2.2", f"00-{T}-{S}-01", 1),
    ("3.2.2", f"00-{T}-{S}-00", 0),
    ("3.2.2", f"00-{'1' * 32}-{'2' * 16}-01", 1),  # no letter in it
    ("3.2.2.3", f"00-{'0' * 31}1-{S}-01", 1),
    ("3.2.2.3", f"00-{'f' * 32}-{S}-01", 1),
    ("3.2.2.4", f"00-{T}-{'0' * 15}1-01", 1),
    ("3.2.2.4", f"00-{T}-{'f' * 16}-01", 1),
    ("3.2.2.5.2", f"00-{T}-{S}-02", 2),
    ("3.2.2.5.2", f"00-{T}-{S}-03", 3),
    ("3.2.2.5.3", f"00-{T}-{S}-04", 0),
    ("3.2.2.5.3", f"00-{T}-{S}-ff", 3),
    ("3.2.4", f"01-{T}-{S}-01", 1),
    ("3.2.4", f"cc-{T}-{S}-01", 1),
    ("3.2.4", f"fe-{T}-{S}-fe", 2),
    ("3.2.4", f"cc-{T}-{S}-01-", 1),
    ("3.2.4", f"cc-{T}-{S}-01-what the future-will:be", 1),
    ("3.2.4", f"cc-{T}-{S}-01-{'x' * 2000}", 1),
    ("RFC 9110 5.5", f" 00-{T}-{S}-01", 1),
    ("RFC 9110 5.5", f"\t \t00-{T}-{S}-01 \t ", 1),
    ("RFC 9110 5.5", f"cc-{T}-{S}-01- ", 1),
]

REFUSED = [
    ("3.2.2", ""),
    ("3.2.2", "00"),
    ("3.2.2", T),
    ("3.2.2", f"00-{T}-{S}"),
    ("3.2.2", f"00-{T}-{S}-"),
    ("3.2.2", f"00_{T}_{S}_01"),
    ("3.2.2", f"00-{T}{S}--01"),
    ("3.2.2", f"00-{T[:-1]}-{S}-01-"),
    ("3.2.2", f"00-{'-' * 32}-{S}-01"),
    ("3.2.2", f"-{T}-{S}-0001"),
    ("3.2.2", f"00-{T}- {S[1:]}-01"),
    ("3.2.2", f"00- {T[1:]}-{S}-01"),
    ("3.2.2", f"00-{T}-{S}-01\n"),
    ("3.2.2", f"\n00-{T}-{S}-01"),
    ("3.2.2", f"\x0000-{T}-{S}-01"),
    ("3.2.2", f"\xa000-{T}-{S}-01"),
    ("3.2.2", f"00-{T}-{S}-01,00-{T}-{S}-01"),  # two headers folded into one
    ("3.2.2", f"cc-{T}-{S}-01-x,cc-{T}-{S}-01"),
    ("3.2.2.1", f"ff-{T}-{S}-01"),
    ("3.2.2.1", f"ff-{T}-{S}-01-x"),
    ("3.2.2.1", f"FF-{T}-{S}-01"),
    ("3.2.2.1", f"CC-{T}-{S}-01"),
    ("3.2.2.1", f"0-{T}-{S}-01"),
    ("3.2.2.1", f"000-{T}-{S}-01"),
    ("3.2.2.1", f".0-{T}-{S}-01"),
    ("3.2.2.2", f"00-{T}-{S}-01-"),
    ("3.2.2.2", f"00-{T}-{S}-01-x"),
    ("3.2.2.2", f"00-{T}-{S}-01."),
    ("3.2.2.2", f"00-{T}-{S}-010"),
    ("3.2.2.3", f"00-{'0' * 32}-{S}-01"),
    ("3.2.2.3", f"cc-{'0' * 32}-{S}-01"),
    ("3.2.2.3", f"00-{T.upper()}-{S}-01"),
    ("3.2.2.3", f"00-{T[:-1]}-{S}-01"),
    ("3.2.2.3", f"00-{T}0-{S}-01"),
    ("3.2.2.3", f"00-{T[:-1]}g-{S}-01"),
    ("3.2.2.3", f"00-1_{T[2:]}-{S}-01"),  # what int() would take
    ("3.2.2.3", f"00-0x{T[2:]}-{S}-01"),
    ("3.2.2.3", f"00-+{T[1:]}-{S}-01"),
    ("3.2.2.3", f"00-\xb2{T[1:]}-{S}-01"),
    ("3.2.2.4", f"00-{T}-{'0' * 16}-01"),
    ("3.2.2.4", f"cc-{T}-{'0' * 16}-01-x"),
    ("3.2.2.4", f"00-{T}-{S.upper()}-01"),
    ("3.2.2.4", f"00-{T}-{S[:-1]}-01"),
    ("3.2.2.4", f"00-{T}-{S}0-01"),
    ("3.2.2.4", f"00-{T}-{S[:-1]}.-01"),
    ("3.2.2.5", f"00-{T}-{S}-1"),
    ("3.2.2.5", f"00-{T}-{S}-0A"),
    ("3.2.2.5", f"00-{T}-{S}-0."),
    ("3.2.2.5", f"00-{T}-{S}- 1"),
    ("3.2.4", f"cc-{T}-{S}-0"),
    ("3.2.4", f"cc-{T}-{S}-01.x"),
    ("3.2.4", f"cc-{T}-{S}-01 -x"),
    ("3.2.4", f"cc-{T}-{S}-011"),
    ("3.2.4", f"cc-{T}x{S}-01"),
    ("3.2.4", f"cc.{T}-{S}-01"),
]


@pytest.mark.parametrize(("section", "value", "flags"), ACCEPTED)
def test_an_accepted_traceparent_gives_ids_and_known_flags(section: str, value: str, flags: int) -> None:
    """A legal value yields its two ids and, of its flags, the two bits that Level 2 defines."""
    parsed = parse_traceparent(value.encode("latin-1"))
    _, trace_id, span_id, _ = value.strip(" \t").split("-")[:4]
    assert parsed == (int(trace_id, 16), int(span_id, 16), flags), section
    assert type(parsed[2]) is TraceFlags


@pytest.mark.parametrize(("section", "value"), REFUSED)
def test_a_refused_traceparent_gives_nothing(section: str, value: str) -> None:
    """Whatever breaks a rule starts a new trace."""
    assert parse_traceparent(value.encode("latin-1")) is None, section
    assert read_span_context(value.encode("latin-1"), [b"foo=1"]) is None, section


@pytest.mark.parametrize("value", [value for _, value, _ in ACCEPTED] + [value for _, value in REFUSED])
def test_the_fast_path_decides_as_the_grammar_does_on_every_known_case(value: str) -> None:
    """`read_span_context` takes and refuses what `parse_traceparent` does, with the same result."""
    assert_fast_is_grammar(value.encode("latin-1"))


@given(data=st.data())
def test_the_fast_path_decides_as_the_grammar_does_on_damaged_values(data: st.DataObject) -> None:
    """The two agree also on values in which some bytes were replaced, removed or added."""
    value = bytearray(
        f"{data.draw(st.sampled_from(['00', 'cc', '0f']))}-{T}-{S}-{data.draw(st.integers(0, 255)):02x}".encode()
    )
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(value)))
        with_ = data.draw(st.sampled_from([b"", b"-", b"0", b"f", b"A", b"g", b" ", b"_", b"+", b"x", b",", b"\xff"]))
        value[at : at + data.draw(st.integers(0, 1))] = with_
    assert_fast_is_grammar(bytes(value))


@given(st.binary(max_size=60))
def test_the_fast_path_survives_any_bytes(value: bytes) -> None:
    """No bytes make either of the two raise."""
    assert_fast_is_grammar(value)


def assert_fast_is_grammar(value: bytes) -> None:
    parsed, read = parse_traceparent(value), read_span_context(value)
    if parsed is None:
        assert read is None
    else:
        assert read == SpanContext(parsed[0], parsed[1], True, parsed[2])
        assert read.is_valid


@pytest.mark.parametrize("flags", range(256))
def test_flags_keep_the_two_defined_bits(flags: int) -> None:
    """3.2.2.5.3: of all 256 flag bytes the sampled and the random bit are read and sent, nothing else."""
    read = read_span_context(f"00-{T}-{S}-{flags:02x}".encode())
    assert read is not None
    assert read.trace_flags == flags & 3
    assert read.trace_flags.sampled is bool(flags & 1)
    sent = format_traceparent(SpanContext(TRACE_ID, SPAN_ID, False, TraceFlags(flags)))
    assert sent == f"00-{T}-{S}-{flags & 3:02x}"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_a_formatted_traceparent_reads_back(trace_id: int, span_id: int, flags: int) -> None:
    """What is sent is 55 lower-case characters that give the same context again."""
    context = SpanContext(trace_id, span_id, True, TraceFlags(flags))
    sent = format_traceparent(context)
    assert (len(sent), sent) == (55, sent.lower())
    assert read_span_context(sent.encode()) == context


def test_a_span_context_that_is_no_tuple_is_built_by_its_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way to a `SpanContext` is taken only where it makes what the API's constructor makes."""
    monkeypatch.setattr(traceparent, "SPAN_CONTEXT_IS_TUPLE", False)
    assert read_span_context(VALID) == SpanContext(TRACE_ID, SPAN_ID, True, TraceFlags(1))


def test_a_bad_tracestate_leaves_traceparent_alone() -> None:
    """3.3: failing to parse `tracestate` does not affect the ids; it is empty then."""
    context = read_span_context(VALID, [b"foo=1", b"BAD"])
    assert context == SpanContext(TRACE_ID, SPAN_ID, True, TraceFlags(1))


def test_tracestate_is_not_parsed_after_a_bad_traceparent() -> None:
    """3.3: without a valid `traceparent`, `tracestate` is not even looked at."""

    class Untouchable(Sequence[bytes]):
        def __getitem__(self, index: object) -> bytes:  # type: ignore[override]
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError

    assert read_span_context(b"junk", Untouchable()) is None
    assert read_span_context(f"00-{'0' * 32}-{S}-01".encode(), Untouchable()) is None


def numbered(count: int, value: str = "v") -> list[str]:
    return [f"k{n:02d}={value}" for n in range(count)]


KEYS_OF_LEVEL_2 = [
    "1foo",
    "foo@",
    "foo@@bar",
    "foo@bar@baz",
    "1@1",
    "0",
    "a@_-*/",
    f"{'t' * 242}@v",
    f"t@{'v' * 15}",
    "9" * 256,
]

TRACESTATES = [
    # section, lines, members; None for those who are sent as they came
    ("3.3.1.1", ["foo=1,bar=2"], ["foo=1", "bar=2"]),
    ("3.3.1.1", ["foo=1", "bar=2,baz=3"], ["foo=1", "bar=2", "baz=3"]),
    ("3.3.1.1", [""], []),
    ("3.3.1.1", [",", " ,\t", ""], []),
    ("3.3.1.1", ["foo=1,,bar=2,\t ,"], ["foo=1", "bar=2"]),
    ("3.3.1.1", ["", "foo=1", ""], ["foo=1"]),
    ("3.3.1.1", [" foo=1 \t,\t bar=2 "], ["foo=1", "bar=2"]),
    ("3.3.1.1", [",".join(numbered(32))], numbered(32)),
    ("3.3.1.1", [",".join(numbered(32)) + ",,"], numbered(32)),
    ("3.3.1.1", [",".join(numbered(33))], []),
    ("3.3.1.1", ["k00=x", ",".join(numbered(32))], []),
    ("3.3.1.1", [",".join(numbered(20)), "z=1," + ",".join(f"y{n}=1" for n in range(12))], []),
    *(("3.3.1.3.1", [f"{key}=1,bar=2"], [f"{key}=1", "bar=2"]) for key in KEYS_OF_LEVEL_2),
    ("3.3.1.3.1", ["@foo=1,bar=2"], []),
    ("3.3.1.3.1", ["-foo=1,bar=2"], []),
    ("3.3.1.3.1", ["*foo=1,bar=2"], []),
    ("3.3.1.3.1", ["fOo=1,bar=2"], []),
    ("3.3.1.3.1", ["foo.bar=1,bar=2"], []),
    ("3.3.1.3.1", ["foo =1,bar=2"], []),
    ("3.3.1.3.1", ["foo\t=1"], []),
    ("3.3.1.3.1", ["=1,bar=2"], []),
    ("3.3.1.3.1", ["bar=2,foo"], []),
    ("3.3.1.3.1", [f"{'z' * 257}=1,bar=2"], []),
    ("3.3.1.3.1", ["f\xf6\xf6=1"], []),
    ("3.3.1.3.2", ["foo= 1"], ["foo= 1"]),
    ("3.3.1.3.2", ["foo=1 2\t"], ["foo=1 2"]),
    ("3.3.1.3.2", ["foo= "], []),
    ("3.3.1.3.2", ["foo=,bar=2"], []),
    ("3.3.1.3.2", ["foo=1=2"], []),
    ("3.3.1.3.2", ["foo=1\t2"], []),
    ("3.3.1.3.2", ["foo=\x7f"], []),
    ("3.3.1.3.2", ["foo=\xe9"], []),
    ("3.3.1.3.2", ["foo=1\n"], []),
    ("3.3.1.3.2", [f"foo={'v' * 256}"], [f"foo={'v' * 256}"]),
    ("3.3.1.3.2", [f"foo={' ' * 255}v"], [f"foo={' ' * 255}v"]),
    ("3.3.1.3.2", [f"foo={'v' * 257}"], []),
    ("3.3.1.3.2", ["foo=" + "".join(map(chr, range(0x21, 0x7F))).translate({44: None, 61: None})],
     ["foo=" + "".join(map(chr, range(0x21, 0x7F))).translate({44: None, 61: None})]),
    ("3.3.1.4", ["foo=1,foo=1"], ["foo=1"]),
    ("3.3.1.4", ["foo=1,bar=2", "foo=3"], ["foo=1", "bar=2"]),
    ("3.3.1.4", [",".join(numbered(31)) + ",k00=x"], numbered(31)),
    ("3.3.1.5", [f"foo={'v' * 252},bar={'w' * 251}"], [f"foo={'v' * 252}", f"bar={'w' * 251}"]),
    ("3.3.1.5", [",".join(numbered(32, "v" * 251)) + "v"], [*numbered(31, "v" * 251), f"k31={'v' * 252}"]),  # 8,192
    ("3.3.1.5", [",".join(numbered(32, "v" * 251)) + "vv"], numbered(31, "v" * 251)),
]  # fmt: skip


def members_of(state: TraceState) -> list[str]:
    """All members, whether they are sent or not."""
    return [f"{key}={value}" for key, value in state.items()]


@pytest.mark.parametrize(("section", "lines", "members"), TRACESTATES)
def test_tracestate_is_read_by_level_2(section: str, lines: list[str], members: list[str]) -> None:
    """A legal list keeps its members in their order, and an illegal member discards the list."""
    state = parse_tracestate([line.encode("latin-1") for line in lines])
    assert members_of(state) == members, section
    header = ",".join(members)
    assert format_tracestate(state) == state.to_header()
    assert state.to_header() == (header if len(header) <= 512 else ",".join(members[:2]))
    assert bool(state) is bool(members)


def test_forwarded_duplicates_stay() -> None:
    """3.4: beside an unchanged `traceparent`, `tracestate` keeps repeated keys; else each is there once."""
    state = parse_tracestate([b"foo=1, bar=2,", b"foo=3"])
    assert format_tracestate(state, forwarded=True) == "foo=1,bar=2,foo=3"
    assert format_tracestate(state) == "foo=1,bar=2"
    assert format_tracestate(state.update("new", "4"), forwarded=True) == "new=4,foo=1,bar=2"
    assert format_tracestate(parse_tracestate([b"foo=1 ,bar=2"]), forwarded=True) == "foo=1,bar=2"
    assert format_tracestate(TraceState([("foo", "1")]), forwarded=True) == "foo=1"


def test_a_list_of_more_than_8192_characters_loses_long_members_first_and_then_the_rightmost() -> None:
    """3.3.1.5: whole members go, those of more than 128 characters before all others, from the right end."""
    long = [f"{'l' * 30}{n:02d}={'v' * 256}" for n in range(30)]
    exactly_128 = f"key={'v' * 124}"
    state = parse_tracestate([",".join(["foo=1", *long, exactly_128]).encode()])
    assert members_of(state) == ["foo=1", *long[:27], exactly_128]
    length = len(",".join(members_of(state)))
    assert length <= 8192 < length + 1 + len(long[27])


def test_only_long_members_in_a_list_too_long() -> None:
    """3.3.1.5: where every member is long they go from the right end alone, and what is left reads back."""
    members = [f"k{n:02d}{'x' * 200}={'v' * 256}" for n in range(32)]
    state = parse_tracestate([",".join(members).encode()])
    assert members_of(state) == members[:17]
    assert parse_tracestate([",".join(members[:17]).encode()]) == state


def state_of(text: str) -> Level2TraceState:
    return Level2TraceState.from_header([text])


def test_update_moves_a_member_to_the_left() -> None:
    """3.5: a changed member moves to the left end, the others keep their order, and the original stays as it was."""
    state = state_of("1a=1,b@=2,c=3")
    assert state.update("c", "x").to_header() == "c=x,1a=1,b@=2"
    assert state.update("d@@", "4").to_header() == "d@@=4,1a=1,b@=2,c=3"
    assert state.to_header() == "1a=1,b@=2,c=3"


def test_add_puts_a_new_member_to_the_left_and_leaves_a_known_one() -> None:
    """3.5: a new member stands at the left end; `add` of a key that is there changes nothing, as in the API."""
    state = state_of("a=1,b=2")
    assert state.add("9@", "x").to_header() == "9@=x,a=1,b=2"
    assert state.add("a", "x") is state


@pytest.mark.parametrize("change", ["add", "update"])
def test_a_33rd_member_pushes_the_rightmost_out(change: str) -> None:
    """3.3.1.1 and 3.5: with 32 members there, a new one costs the oldest."""
    changed = getattr(state_of(",".join(numbered(32))), change)("new", "1")
    assert changed.to_header().split(",") == ["new=1", *numbered(31)]


def test_delete_removes_one_member() -> None:
    """3.5: a member may be deleted; an unknown key changes nothing."""
    state = state_of("a=1,b@=2,c=3")
    assert state.delete("b@").to_header() == "a=1,c=3"
    assert state.delete("x") is state
    assert not state_of("a=1").delete("a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("A", "1"),
        ("@a", "1"),
        ("", "1"),
        ("a", ""),
        ("a", "1 "),
        ("a", "1,b=2"),
        ("a" * 257, "1"),
        (1, "1"),
        ("a", None),
    ],
)
def test_an_illegal_change_changes_nothing(key: str, value: str) -> None:
    """What `tracestate` may not hold never gets into it."""
    state = state_of("b=2")
    assert state.add(key, value) is state
    assert state.update(key, value) is state
    assert not Level2TraceState([(key, value)])


def test_a_trace_state_is_built_from_pairs() -> None:
    """The constructor takes what the API's does: pairs, of equal keys the first, at most 32."""
    assert Level2TraceState([("1a", "1"), ("b@", "2"), ("1a", "3")]).to_header() == "1a=1,b@=2"
    assert len(Level2TraceState([(f"k{n}", "v") for n in range(40)])) == 32
    assert len(Level2TraceState()) == len(Level2TraceState.get_default()) == 0


def test_a_trace_state_is_a_mapping_like_the_apis() -> None:
    """It reads, compares, prints, copies and pickles as the API's own `TraceState` does."""
    ours, theirs = state_of("a=1,b=2"), TraceState([("a", "1"), ("b", "2")])
    assert isinstance(ours, TraceState)
    assert ours == theirs
    assert repr(ours) == repr(theirs)
    assert (list(ours), list(ours.keys()), list(ours.values())) == (["a", "b"], ["a", "b"], ["1", "2"])
    assert (ours["a"], ours.get("x"), "a" in ours, "x" in ours, len(ours)) == ("1", None, True, False, 2)
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours
    with pytest.raises(KeyError):
        ours["x"]


def test_every_public_method_of_the_apis_trace_state_is_ours() -> None:
    """A method that a later API adds, and that would see none of our members, is noticed here."""
    inherited = {name for name, _ in inspect.getmembers(TraceState, callable) if name in vars(TraceState)}
    assert inherited - {"__class__", "__abstractmethods__"} <= vars(Level2TraceState).keys()


class Mutating(Sampler):
    """A sampler that writes to `tracestate`, as probability samplers do."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        state = get_current_span(parent_context).get_span_context().trace_state
        state = state.add("7new@", "1").update("foo@", "2").delete("gone@@")
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, state)

    def get_description(self) -> str:
        return "Mutating"


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (ALWAYS_ON, "1key=1,foo@=old,gone@@=3"),
        (ParentBased(ALWAYS_OFF), "1key=1,foo@=old,gone@@=3"),
        (TraceIdRatioBased(1.0), "1key=1,foo@=old,gone@@=3"),
        (Mutating(), "foo@=2,7new@=1,1key=1"),
    ],
)
def test_keys_of_level_2_survive_sampler_span_and_export(sampler: Sampler, expected: str) -> None:
    """They pass the SDK's samplers, its span, its JSON and the official OTLP encoding unharmed."""
    remote = read_span_context(VALID, [b"1key=1,foo@=old", b"gone@@=3"])
    assert remote is not None
    with capture_spans(sampler) as spans:
        tracer = spans.tracer_provider.get_tracer("test")
        span = tracer.start_span("child", set_span_in_context(NonRecordingSpan(remote), Context()))
        span.end()
    assert format_tracestate(span.get_span_context().trace_state) == expected
    (exported,) = encode_spans(spans.finished).resource_spans[0].scope_spans[0].spans
    assert exported.trace_state == expected
    assert json.loads(spans[0].to_json())["context"]["trace_state"] == repr(state_of(expected))


def test_an_unsampled_span_keeps_the_state() -> None:
    """ALWAYS_OFF drops the span, not its context."""
    remote = read_span_context(VALID, [b"1key=1"])
    assert remote is not None
    with capture_spans(ALWAYS_OFF) as spans:
        tracer = spans.tracer_provider.get_tracer("test")
        span = tracer.start_span("child", set_span_in_context(NonRecordingSpan(remote), Context()))
    assert not span.is_recording()
    assert span.get_span_context().trace_state.to_header() == "1key=1"
