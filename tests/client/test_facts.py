"""The facts of a call: the attributes that they become, and the bytes that are written straight from them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry import trace as api
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from asgi_trace import _sdk as sdk
from asgi_trace._sdk.encoder import SpanEncoder, official_bytes
from asgi_trace._sdk.span import _Span
from asgi_trace._sdk.span_check import same_as_sdk
from asgi_trace._sdk.tracer import adopt
from asgi_trace._semconv.client import ClientDescription
from asgi_trace.httpx import TraceTransport

from ..support.sdk import Asking, OtherKind, TakingLive, facts

pytestmark = pytest.mark.skipif(not same_as_sdk(adopt), reason="this SDK has other spans than ours")

ENCODER = SpanEncoder()
"""One for all examples, as a service has it: what it remembers must not change a byte."""

ORIGINS = st.sampled_from(
    [
        "http://api.example.com",
        "http://api.example.com:8080",
        "https://user:pass@api.example.com",
        "https://bücher.example",
        "http://[::1]:8000",
        "http://10.0.0.1",
        "gopher://api.example.com",
        "http://xn--a.example",
        "",
    ]
)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    st.sampled_from(["x" * size for size in (20, 62, 63, 64, 127, 128, 250, 300, 4060, 5000)]),
)
QUERIES = st.one_of(
    TEXT,
    st.sampled_from(["page=2", "sig=secret", "a=1&Signature=x&b=%20", "token=5&" + "q=1&" * 40, "sig=1&" * 600, "#f"]),
)
HOSTS = st.sampled_from(
    [None, "other.test", "other.test:81", "[::2]", "", "no host", "h" * 255, "h" * 300, "xn--bcher-kva.example", "é"]
)
METHODS = st.sampled_from(["GET", "POST", "BREW", "get", "ß"])
TEMPLATES = st.sampled_from([None, "/items/{id}", "/ü", ""])
STATUSES = st.sampled_from([200, 204, 404, 503])


class Call:
    """One call: its request, how often it is sent, and what is answered."""

    def __init__(
        self, method: str, origin: str, path: str, query: str, host: str | None, template: str | None, sends: int
    ) -> None:
        self.method = method
        self.url = origin + (f"/{path}?{query}" if query else f"/{path}")
        self.host = host
        self.template = template
        self.sends = sends

    def __repr__(self) -> str:
        return f"Call{self.method, self.url[:80], len(self.url), self.host, self.template, self.sends}"

    def request(self) -> Any:
        """A new request."""
        extensions = {} if self.template is None else {"url_template": self.template}
        headers: list[tuple[bytes, bytes]] = [] if self.host is None else [(b"Host", self.host.encode())]
        return httpx.Request(self.method, self.url, headers=headers, extensions=extensions)


def _is_url(call: Call) -> bool:
    try:
        call.request()
    except Exception:  # the library refuses it: it cannot be sent
        return False
    return True


CALLS = st.builds(Call, METHODS, ORIGINS, TEXT, QUERIES, HOSTS, TEMPLATES, st.integers(1, 3)).filter(_is_url)


def traced(
    kind: Any = sdk.TracerProvider,
    *,
    sampler: Any = None,
    status: int = 200,
    limits: Any = None,
    answer: Callable[[Any], Any] | None = None,
    **options: Any,
) -> tuple[Any, TakingLive]:
    """A transport on a provider of that kind, and the processor that holds what it records."""
    provider = kind(sampler=sampler or ParentBased(ALWAYS_ON), shutdown_on_exit=False, span_limits=limits)
    processor = TakingLive()
    provider.add_span_processor(processor)
    inner = httpx.MockTransport(answer or (lambda request: httpx.Response(status, content=b"hello")))
    return TraceTransport(inner, tracer_provider=provider, **options), processor


def send(transport: Any, request: Any, times: int = 1) -> None:
    """Send a request so many times."""
    for _ in range(times):
        transport.handle_request(request).read()


@settings(max_examples=400, deadline=None)
@given(call=CALLS, status=STATUSES, redact=st.sampled_from([(), "page", lambda name, value: "rule"]))
def test_bytes_and_attributes_say_the_same(call: Call, status: int, redact: Any) -> None:
    """What is written straight from facts is what the official encoder writes of the attributes they become."""
    transport, processor = traced(status=status, redact=redact)
    send(transport, call.request(), call.sends)
    ended = processor.ended
    assert len(ended) == call.sends
    written = ENCODER.encode(ended)  # before anything has asked for an attribute
    assert written == official_bytes(ended)  # which asks for all of them
    assert ENCODER.encode(ended) == written  # and now they are there


LIMITS = st.sampled_from(
    [
        None,
        official.SpanLimits(max_attributes=3),
        official.SpanLimits(max_attributes=40),
        official.SpanLimits(max_span_attribute_length=10),
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    call=CALLS, status=STATUSES, limits=LIMITS, redact=st.sampled_from([(), "page"]), capture=st.sampled_from([(), "*"])
)
def test_a_span_from_facts_is_the_one_from_attributes(
    call: Call, status: int, limits: Any, redact: Any, capture: Any
) -> None:
    """Everything public of a span is the same on our provider and on the SDK's own without our spans."""
    seen = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        with pytest.MonkeyPatch.context() as patch:
            if kind is official.TracerProvider:
                patch.setenv("ASGI_TRACE_FAST_SPANS", "false")
            transport, processor = traced(
                kind, status=status, limits=limits, redact=redact, capture_response_headers=capture and ".*"
            )
        send(transport, call.request(), call.sends)
        found = [facts(span) for span in processor.ended]
        for each in found:  # what is random, or the time
            for random in ("context", "times", "json"):
                del each[random]
        seen.append(found)
    assert seen[0] == seen[1]


USUAL = Call("GET", "http://api.test:8080", "items/42", "page=2&token=x", None, None, 1)
DESCRIBED = {
    "http.request.method": "GET",
    "server.address": "api.test",
    "server.port": 8080,
    "url.full": "http://api.test:8080/items/42?page=2&token=REDACTED",
}


def test_an_ordinary_call_is_kept_as_facts() -> None:
    """No attributes are made, unless something asks; what is asked for are all of them, in order."""
    transport, processor = traced()
    send(transport, USUAL.request())
    (span,) = processor.live
    assert type(span) is _Span
    assert (span._made_attributes, span._values) == (None, {"http.response.status_code": 200})
    assert list(span._describe().items()) == list({**DESCRIBED, "http.response.status_code": 200}.items())
    assert DESCRIBED.keys() <= ClientDescription.keys


class _OwnURL(httpx.URL):
    """What the application has made of the library's class."""


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"redact": lambda name, value: "rule"}, "http://api.test/?a=b"),
        ({}, _OwnURL("http://api.test/?a=b")),
        ({}, "http://api.test/?" + "a" * 5000),
    ],
    ids=["a rule of the application", "a class of the application", "longer than what is recorded"],
)
def test_what_may_change_or_is_too_long_is_described_at_once(options: Any, url: Any) -> None:
    """Such a request is described before it is sent, so that a span holds no more of it than is recorded."""
    transport, processor = traced(**options)
    request = httpx.Request("GET", url)
    request.url = httpx.URL(url) if isinstance(url, str) else url  # the library makes its own class of any other
    send(transport, request)
    (span,) = processor.live
    assert span._facts is None
    assert len(span._values["url.full"]) <= 4096
    assert ENCODER.encode([span]) == official_bytes([span])


def test_a_rule_of_the_application_is_asked_before_the_send() -> None:
    """A function for `redact=` is called by the thread that sends, never by one that exports."""
    asked: list[tuple[str, Any]] = []

    def rule(name: str, value: str) -> str:
        asked.append((name, threading.current_thread()))
        return "masked"

    transport, processor = traced(redact=rule)
    send(transport, USUAL.request())
    assert asked == [("page", threading.main_thread()), ("token", threading.main_thread())]
    attributes = dict(processor.ended[0].attributes or {})
    assert attributes["url.full"] == "http://api.test:8080/items/42?page=masked&token=masked"


# --- what asks for the attributes early ---


def test_a_sampler_of_its_own_kind_sees_all_attributes() -> None:
    """Facts become attributes at once where a sampler looks at them."""
    sampler = Asking()
    transport, _ = traced(sampler=sampler)
    send(transport, USUAL.request())
    assert sampler.asked == [DESCRIBED]


@pytest.mark.parametrize("looks", ["at once", "later"])
def test_a_sampler_that_drops_may_look_when_it_likes(looks: str) -> None:
    """What it was given says the same during the call and after it, also where most calls are not recorded."""
    given: list[Any] = []

    class Dropping(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            given.append(dict(args[4]) if looks == "at once" else args[4])
            return ALWAYS_OFF.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return "dropping"

    transport, _ = traced(sampler=Dropping())
    request = USUAL.request()
    for _ in range(3):
        send(transport, request)
    assert [dict(each)["url.full"] for each in given] == [DESCRIBED["url.full"]] * 3
    if looks == "at once":
        assert [each.get("http.request.resend_count", 0) for each in given] == [0, 1, 2]


def test_a_processor_sees_all_attributes_at_the_start() -> None:
    """One that is added after the first call sees the next call's span with all its attributes and its parent."""
    seen: list[Any] = []

    class Seeing(official.SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append((dict(span.attributes), api.get_current_span(parent_context).get_span_context().span_id))

    transport, _ = traced()
    send(transport, USUAL.request())
    transport._config.tracers.provider().add_span_processor(Seeing())
    parent = api.NonRecordingSpan(api.SpanContext(5, 6, False, api.TraceFlags(1)))
    token = otel_context.attach(api.set_span_in_context(parent))
    try:
        send(transport, USUAL.request())
    finally:
        otel_context.detach(token)
    assert seen == [(DESCRIBED, 6)]


def test_hooks_and_what_is_sent_further_in_see_all_attributes() -> None:
    """`on_request`, the transport further in and `on_response` see what is known at that moment, and may add to it."""
    seen: list[Any] = []

    def look(span: Any, *rest: Any) -> None:
        seen.append(dict(span.attributes))
        span.set_attribute(f"look.{len(seen)}", len(seen))

    def answer(request: Any) -> Any:
        look(api.get_current_span())
        return httpx.Response(200)

    transport, processor = traced(on_request=look, on_response=look, answer=answer)
    send(transport, USUAL.request())
    first = {**DESCRIBED, "look.1": 1}
    third = {**first, "look.2": 2, "http.response.status_code": 200}
    assert seen == [DESCRIBED, first, third]
    assert dict(processor.ended[0].attributes or {}) == {**third, "look.3": 3}


@pytest.mark.parametrize(
    ("key", "value"), [("url.full", "mine"), ("http.response.status_code", 1), ("n", [1, 2]), ("", 1), ("n", object())]
)
def test_attributes_of_the_application_are_as_on_the_sdks_span(
    key: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """In the SDK's order and with its warnings, also where one of them replaces a fact."""
    seen = []
    for fast in ("false", "true"):

        def answer(request: Any) -> Any:
            api.get_current_span().set_attribute(key, value)
            return httpx.Response(200)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASGI_TRACE_FAST_SPANS", fast)
            transport, processor = traced(official.TracerProvider, answer=answer)
        caplog.clear()
        send(transport, USUAL.request())
        (ended,) = processor.ended
        assert ENCODER.encode([ended]) == official_bytes([ended])
        seen.append((list((ended.attributes or {}).items()), [record.getMessage() for record in caplog.records]))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_sampler_decides_as_ever(rate: float) -> None:
    """Without a parent the ratio decides; every call sends the ids of its span, recorded or not."""
    sent: list[str] = []

    def answer(request: Any) -> Any:
        sent.append(request.headers["traceparent"])
        return httpx.Response(200)

    transport, processor = traced(sampler=ParentBased(TraceIdRatioBased(rate)), answer=answer)
    for _ in range(40):
        send(transport, USUAL.request())
    recorded = {f"{span.context.trace_id:032x}-{span.context.span_id:016x}" for span in processor.ended}
    assert {text[3:52] for text in sent if text.endswith(("1", "3"))} == recorded
    assert len(sent) == 40
    assert {0.0: not recorded, 0.5: True, 1.0: len(recorded) == 40}[rate]


def test_threads_that_look_while_a_response_arrives_see_one_truth() -> None:
    """Attributes that are read at any moment around the response's arrival are the facts, and lose nothing later."""
    for _ in range(30):
        go = threading.Barrier(4)
        threads: list[threading.Thread] = []
        found: list[dict[str, Any]] = []

        def look(span: Any, go: threading.Barrier, found: list[dict[str, Any]]) -> None:
            go.wait()
            found.append(dict(span.attributes))

        def answer(
            request: Any,
            go: threading.Barrier = go,
            threads: list[threading.Thread] = threads,
            found: list[Any] = found,
        ) -> Any:
            span = api.get_current_span()
            threads += [threading.Thread(target=look, args=(span, go, found)) for _ in range(3)]
            for thread in threads:
                thread.start()
            go.wait()
            return httpx.Response(200)

        transport, processor = traced(answer=answer)
        send(transport, USUAL.request())
        for thread in threads:
            thread.join()
        whole = dict(processor.ended[0].attributes or {})
        assert whole == {**DESCRIBED, "http.response.status_code": 200}
        assert ENCODER.encode(processor.ended) == official_bytes(processor.ended)
        assert len(found) == 3
        for each in found:
            assert DESCRIBED.items() <= each.items() <= whole.items()


def test_a_provider_of_another_kind_gets_attributes() -> None:
    """A class of the user's own that only has the API's methods is asked in the API's way, with all attributes."""
    provider = OtherKind()
    transport = TraceTransport(httpx.MockTransport(lambda request: httpx.Response(200)), tracer_provider=provider)
    send(transport, USUAL.request(), 2)
    assert provider.started == [DESCRIBED, {**DESCRIBED, "http.request.resend_count": 1}]
