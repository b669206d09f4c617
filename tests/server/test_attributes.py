"""The attributes of a SERVER span, from a scope: HTTP semantic conventions 1.44, row by row."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from asgi_trace import TraceMiddleware
from asgi_trace._server.forwarded import Forwarded, read_forwarded
from asgi_trace._server.networks import TrustedProxies
from asgi_trace._types import Message
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import OK, TRACEPARENT, attributes_of, body, drive, http_scope, responding, start, websocket_scope

Headers = list[tuple[bytes, bytes]]


def seen(spans: CapturedSpans, scope: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The attributes of the span of a plain 200."""
    spans.clear()
    drive(TraceMiddleware(OK, **options), scope)
    return attributes_of(spans.server)


def shown(spans: CapturedSpans, keys: Iterable[str], scope: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Some of the attributes: those of them that are there."""
    attributes = seen(spans, scope, **options)
    return {key: attributes[key] for key in keys if key in attributes}


def test_the_whole_of_an_ordinary_request(spans: CapturedSpans) -> None:
    """Required, conditionally required and recommended attributes, each with the type of the conventions."""
    scope = http_scope(
        "/orders/7 b",
        "POST",
        raw_path=b"/orders/7%20b",
        query_string=b"q=a%20b",
        scheme="https",
        headers=[(b"host", b"shop.test:8443"), (b"user-agent", b"curl/8.5")],
        http_version="2",
        client=("192.0.2.7", 51234),
    )
    attributes = seen(spans, scope)

    assert attributes == {
        "http.request.method": "POST",
        "url.scheme": "https",
        "url.path": "/orders/7%20b",
        "url.query": "q=a%20b",
        "server.address": "shop.test",
        "server.port": 8443,
        "client.address": "192.0.2.7",
        "network.peer.address": "192.0.2.7",
        "network.peer.port": 51234,
        "network.protocol.version": "2",
        "user_agent.original": "curl/8.5",
        "http.response.status_code": 200,
    }
    assert {type(value) for value in attributes.values()} == {str, int}


def test_the_least_that_a_scope_may_hold(spans: CapturedSpans) -> None:
    """With every optional key missing, what is required is there and nothing is made up."""
    assert seen(spans, {"type": "http", "method": "GET", "path": "/x"}) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/x",
        "http.response.status_code": 200,
    }


# --- what samplers see ---


class Recording(Sampler):
    """Samples everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, SpanKind | None, dict[str, Any]]] = []

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
        self.asked.append((name, kind, dict(attributes or {})))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "recording"


@pytest.mark.parametrize("flag", [None, b"00", b"01"], ids=["no parent", "unsampled parent", "sampled parent"])
def test_a_sampler_sees_what_is_known_at_the_start(flag: bytes | None) -> None:
    """Method, path, redacted query, scheme, server, client, user agent and captured headers are there for a sampler."""
    headers = [(b"host", b"shop.test"), (b"user-agent", b"probe"), (b"x-tenant", b"acme")]
    if flag is not None:
        headers.append((b"traceparent", TRACEPARENT[:-2] + flag))
    scope = http_scope("/orders/7", query_string=b"sig=secret", headers=headers)
    sampler = Recording()
    with capture_spans(sampler) as spans:
        for _ in range(2):  # the second time, whatever was learned from the first
            drive(TraceMiddleware(OK, capture_request_headers="x-tenant"), dict(scope))

    for name, kind, attributes in sampler.asked:
        assert (name, kind) == ("GET", SpanKind.SERVER)
        assert attributes == {
            "http.request.method": "GET",
            "url.path": "/orders/7",
            "url.query": "sig=REDACTED",
            "url.scheme": "http",
            "server.address": "shop.test",
            "server.port": 80,
            "client.address": "127.0.0.1",
            "network.peer.address": "127.0.0.1",
            "network.peer.port": 51234,
            "network.protocol.version": "1.1",
            "user_agent.original": "probe",
            "http.request.header.x-tenant": ["acme"],
        }
    assert len(spans) == 2


class ByPath(Recording):
    """Drops health checks by their path, as a service may do."""

    def should_sample(self, *arguments: Any, **keywords: Any) -> SamplingResult:
        result = super().should_sample(*arguments, **keywords)
        if self.asked[-1][2]["url.path"] == "/health":
            return SamplingResult(Decision.DROP)
        return result


def test_a_sampler_decides_by_path_request_by_request() -> None:
    """After any run of dropped or recorded requests the next one is judged, and recorded, by its own attributes."""
    paths = ["/a", "/health", "/health", "/b", "/health", "/c", "/d"]
    with capture_spans(ByPath()) as spans:
        traced = TraceMiddleware(OK)
        for path in paths:
            drive(traced, http_scope(path))

    assert [attributes_of(span)["url.path"] for span in spans] == ["/a", "/b", "/c", "/d"]
    assert all(attributes_of(span)["server.address"] == "shop.test" for span in spans)


def test_an_unsampled_request_is_asked_for_nothing() -> None:
    """The header lines of a request that is not sampled are not decoded, parsed or redacted."""
    calls: list[str] = []

    def redact(name: str, value: str) -> str:
        calls.append(name)
        return value

    scope = http_scope(query_string=b"a=1", headers=[(b"traceparent", TRACEPARENT[:-2] + b"00"), (b"x-id", b"1")])
    with capture_spans():
        traced = TraceMiddleware(OK, redact=redact, capture_request_headers="x-id")
        drive(traced, dict(scope))
        calls.clear()
        drive(traced, dict(scope))

    assert calls == []


# --- method ---


METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"]


@pytest.mark.parametrize("method", METHODS)
def test_known_methods_keep_their_name(spans: CapturedSpans, method: str) -> None:
    """RFC 9110's methods, PATCH and QUERY are recorded as they are, without an original."""
    attributes = seen(spans, http_scope(method=method))

    assert attributes["http.request.method"] == method == spans.server.name
    assert "http.request.method_original" not in attributes


@pytest.mark.parametrize("method", ["GeT", "get", "FOOBAR", "PROPFIND", "", "GET ", "é"])
def test_unknown_methods_are_other(spans: CapturedSpans, method: str) -> None:
    """A method outside of the list, case included, is `_OTHER` and the span is called HTTP; the original is kept."""
    attributes = seen(spans, http_scope(method=method))

    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == method
    assert spans.server.name == "HTTP"


def test_names_stay_few_whatever_a_caller_sends(spans: CapturedSpans) -> None:
    """Ten thousand paths and methods from outside make no more names than there are methods."""
    traced = TraceMiddleware(OK)
    for number in range(500):
        drive(traced, http_scope(f"/{number}", f"M{number}"))
        drive(traced, http_scope(f"/{number}"))

    assert {span.name for span in spans} == {"HTTP", "GET"}


def test_the_list_of_methods_can_be_replaced(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS replaces the whole list, case-sensitively; blanks do not count."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET, PROPFIND ,,")

    named = {method: seen(spans, http_scope(method=method))["http.request.method"] for method in ("GET", "PROPFIND")}
    other = {method: seen(spans, http_scope(method=method))["http.request.method"] for method in ("POST", "propfind")}

    assert named == {"GET": "GET", "PROPFIND": "PROPFIND"}
    assert set(other.values()) == {"_OTHER"}


def test_an_empty_list_of_methods_means_the_default(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is an unset one."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")

    assert seen(spans, http_scope(method="QUERY"))["http.request.method"] == "QUERY"


# --- path and query ---


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b"}, "/a%20b"),
        ({"path": "/a b", "raw_path": None}, "/a b"),
        ({"path": "/a", "raw_path": b"/a?q=1"}, "/a"),
        ({"path": "/\udcff", "raw_path": None}, "/?"),
        ({"path": "/\xff", "raw_path": b"/\xff"}, "/\ufffd"),
        ({"path": "", "raw_path": b""}, "/"),
        ({"path": "//evil.test/x", "raw_path": b"//evil.test/x"}, "//evil.test/x"),
        ({"path": "/api/items", "raw_path": b"/api/items", "root_path": "/api"}, "/api/items"),
        ({"path": "*", "raw_path": b"*"}, "*"),
        ({"raw_path": b"http://user:secret@shop.test/a?q=1"}, "/a"),
        ({"raw_path": b"http://user:secret@shop.test"}, "/"),
        ({"path": "https://user:secret@shop.test/a//b", "raw_path": None}, "/a//b"),
        ({"raw_path": b"shop.test:443"}, "shop.test:443"),
    ],
)
def test_the_path_is_the_encoded_one(spans: CapturedSpans, scope: dict[str, Any], path: str) -> None:
    """`url.path` is what stood in the request line, without a query; text that is no UTF-8 never gets out."""
    assert seen(spans, http_scope(**scope))["url.path"] == path


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", None),
        (b"q=1", "q=1"),
        (b"q=%20+x&&=&a;b#c", "q=%20+x&&=&a;b#c"),
        (b"q=a&sig=s3cret", "q=a&sig=REDACTED"),
        (b"sig=1&sig=2&sig", "sig=REDACTED&sig=REDACTED&sig"),
        (b"sig=", "sig=REDACTED"),
        (b"Sig=1&SIGNATURE=2&signature=3", "Sig=REDACTED&SIGNATURE=REDACTED&signature=REDACTED"),
        (b"%73ig=1&s%69g=2", "%73ig=REDACTED&s%69g=REDACTED"),
        (b"X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c", None),
        (b"AWSAccessKeyId=a&Signature=b&X-Goog-Signature=c", None),
        (b"design=1&xsig=2&sigx=3", "design=1&xsig=2&sigx=3"),
        (b"q=\xff", "q=\ufffd"),
    ],
)
def test_the_query_is_redacted_in_place(spans: CapturedSpans, query: bytes, expected: str | None) -> None:
    """The seven standard keys lose their values; keys, order, encoding and every other byte stay as they were."""
    shown = seen(spans, http_scope(query_string=query)).get("url.query")

    if expected is None and query:
        keys = [pair.split("=")[0] for pair in query.decode().split("&")]
        assert shown == "&".join(f"{key}=REDACTED" for key in keys)
    else:
        assert shown == expected


def test_keys_of_the_developer_are_redacted_too(spans: CapturedSpans) -> None:
    """`redact="token"` adds to the standard keys; a callable is the whole rule; one that fails hides everything."""
    scope = http_scope(query_string=b"token=1&sig=2&q=3")

    def rule(name: str, value: str) -> str:
        return "***" if name == "q" else value

    def failing(name: str, value: str) -> str:
        raise RuntimeError

    assert seen(spans, scope, redact="token")["url.query"] == "token=REDACTED&sig=REDACTED&q=3"
    assert seen(spans, scope, redact=rule)["url.query"] == "token=1&sig=2&q=***"
    assert seen(spans, scope, redact=failing)["url.query"] == "token=REDACTED&sig=REDACTED&q=REDACTED"


# --- server.address and server.port ---

HOSTS: list[tuple[bytes, str, tuple[str, int] | None]] = [
    (b"shop.test", "http", ("shop.test", 80)),
    (b"shop.test", "https", ("shop.test", 443)),
    (b"shop.test:8080", "http", ("shop.test", 8080)),
    (b"shop.test:", "https", ("shop.test", 443)),
    (b"SHOP.test:80", "https", ("SHOP.test", 80)),
    (b"192.0.2.1:8080", "http", ("192.0.2.1", 8080)),
    (b"[::1]", "http", ("::1", 80)),
    (b"[2001:db8::1]:8443", "https", ("2001:db8::1", 8443)),
    (b"[::1", "http", None),
    (b"::1", "http", None),
    (b"[shop.test]", "http", None),
    (b"user@shop.test", "http", None),
    (b"user:password@shop.test", "http", None),
    (b"shop.test:http", "http", None),
    (b"shop.test:99999", "http", None),
    (b"shop.test:999999999999999999999999", "http", None),
    (b"shop.test:-1", "http", None),
    (b"shop.test/path", "http", None),
    (b"shop.test?q", "http", None),
    (b"a.test, b.test", "http", None),
    (b"\xff\xfe", "http", None),
    (b"x" * 300, "http", None),
    (b"x" * 100_000, "http", None),
    (b":80", "http", None),
    (b" shop.test ", "http", ("shop.test", 80)),
    (b"shop.test.:81", "http", ("shop.test.", 81)),
    (b"order_service:8000", "http", ("order_service", 8000)),
    (b"_my-shop_", "http", ("_my-shop_", 80)),
    (b"[::ffff:192.0.2.1]", "http", ("::ffff:192.0.2.1", 80)),
    (b"[fe80::1%25eth0]:80", "http", ("fe80::1%25eth0", 80)),
    (b"shop.test:65535", "http", ("shop.test", 65535)),
    (b"shop.test:65536", "http", None),
    (b"shop.test:0", "http", None),
    (b"shop.test:00000", "http", None),
    (b"shop.test\x00", "http", None),
    (b"shop\x7f.test", "http", None),
    (b"shop..test", "http", None),
    (b".", "http", None),
    (b"*", "http", None),
    (b"*.test", "http", None),
    (b"[:::::]", "http", None),
    (b"[12345::]", "http", None),
    (b"[1:2:3]", "http", None),
    (b"[192.0.2.1]", "http", None),
]


@pytest.mark.parametrize(("host", "scheme", "expected"), HOSTS, ids=[f"{row[0][:30]!r} {row[1]}" for row in HOSTS])
@pytest.mark.parametrize("server", [None, ("/run/shop.sock", None), ("10.0.0.1", 8000)], ids=["none", "unix", "tcp"])
def test_the_host_header_is_parsed_or_left_out(
    spans: CapturedSpans, host: bytes, scheme: str, expected: tuple[str, int] | None, server: Any
) -> None:
    """Address and port come from one Host, its default port filled in; no attribute rather than a wrong one."""
    scope = http_scope(headers=[(b"host", host)], scheme=scheme, server=server)
    address = shown(spans, ("server.address", "server.port"), scope)

    assert address == ({} if expected is None else {"server.address": expected[0], "server.port": expected[1]})


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (("10.0.0.1", 8000), {"server.address": "10.0.0.1", "server.port": 8000}),
        (["10.0.0.1", 8000], {"server.address": "10.0.0.1", "server.port": 8000}),
        (("/run/shop.sock", None), {"server.address": "/run/shop.sock"}),
        (("testserver",), {"server.address": "testserver"}),
        (("", 80), {}),
        (None, {}),
        ((), {}),
    ],
)
@pytest.mark.parametrize("headers", [[], [(b"host", b"")]], ids=["no host", "an empty host"])
def test_without_a_host_the_socket_is_the_last_resort(
    spans: CapturedSpans, server: Any, expected: dict[str, Any], headers: Headers
) -> None:
    """HTTP/1.0 without Host: the address that the server listens on, a unix socket's path without a port."""
    scope = http_scope(headers=headers, server=server)

    assert shown(spans, ("server.address", "server.port"), scope) == expected


# --- client and peer ---


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("192.0.2.7", 5000), ("192.0.2.7", "192.0.2.7", 5000)),
        (["192.0.2.7", 5000], ("192.0.2.7", "192.0.2.7", 5000)),
        (("::1", 5000), ("::1", "::1", 5000)),
        (("192.0.2.7", 0), ("192.0.2.7", None, None)),
        (("192.0.2.7", None), ("192.0.2.7", "192.0.2.7", None)),
        (("", 0), (None, None, None)),
        (None, (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_client_and_peer_are_the_sockets(spans: CapturedSpans, client: Any, expected: tuple[Any, ...]) -> None:
    """The socket's peer is both; port 0 is what a proxy-headers middleware leaves, so the peer itself is unknown."""
    attributes = seen(spans, http_scope(client=client))
    keys = ("client.address", "network.peer.address", "network.peer.port")

    assert tuple(attributes.get(key) for key in keys) == expected


PROXY = ("10.0.0.9", 4000)
FORWARDING: list[tuple[str, Headers, dict[str, Any]]] = [
    ("nothing", [], {"client.address": "10.0.0.9"}),
    ("one address", [(b"x-forwarded-for", b"192.0.2.7")], {"client.address": "192.0.2.7"}),
    ("with a port", [(b"x-forwarded-for", b"192.0.2.7:4711")], {"client.address": "192.0.2.7"}),
    ("IPv6", [(b"x-forwarded-for", b"2001:db8::7")], {"client.address": "2001:db8::7"}),
    ("IPv6 in brackets", [(b"x-forwarded-for", b"[2001:db8::7]:4711")], {"client.address": "2001:db8::7"}),
    ("a forged first entry", [(b"x-forwarded-for", b"6.6.6.6, 192.0.2.7")], {"client.address": "192.0.2.7"}),
    ("two proxies of ours", [(b"x-forwarded-for", b"6.6.6.6, 192.0.2.7, 10.0.0.8")], {"client.address": "192.0.2.7"}),
    (
        "several lines",
        [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"192.0.2.7")],
        {"client.address": "192.0.2.7"},
    ),
    ("only proxies", [(b"x-forwarded-for", b"10.0.0.7, 10.0.0.8")], {"client.address": "10.0.0.7"}),
    ("garbage", [(b"x-forwarded-for", b"<script>")], {"client.address": "10.0.0.9"}),
    ("unknown", [(b"forwarded", b"for=unknown")], {"client.address": "10.0.0.9"}),
    ("a hidden client", [(b"forwarded", b'for="_mdn"')], {"client.address": "10.0.0.9"}),
    ("garbage before a client", [(b"x-forwarded-for", b"\xff\xff, 192.0.2.7")], {"client.address": "192.0.2.7"}),
    (
        "scheme and host",
        [
            (b"x-forwarded-for", b"192.0.2.7"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"shop.example"),
        ],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.address": "shop.example", "server.port": 443},
    ),
    (
        "only the scheme",
        [(b"x-forwarded-proto", b"HTTPS")],
        {"client.address": "10.0.0.9", "url.scheme": "https", "server.port": 443},
    ),
    ("a scheme that is none", [(b"x-forwarded-proto", b"gopher")], {"client.address": "10.0.0.9"}),
    (
        "a host with a port",
        [(b"x-forwarded-host", b"shop.example:8443")],
        {"client.address": "10.0.0.9", "server.address": "shop.example", "server.port": 8443},
    ),
    ("a host that is none", [(b"x-forwarded-host", b"a b/c")], {"client.address": "10.0.0.9"}),
    (
        "RFC 7239",
        [(b"forwarded", b'For="[2001:db8::7]:4711";Proto=https;host="shop.example:8443";by=203.0.113.60')],
        {
            "client.address": "2001:db8::7",
            "url.scheme": "https",
            "server.address": "shop.example",
            "server.port": 8443,
        },
    ),
    (
        "RFC 7239, two hops and a forged one",
        [(b"forwarded", b"for=6.6.6.6;host=evil.test, for=192.0.2.7;host=shop.example;proto=https, for=10.0.0.8")],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.address": "shop.example", "server.port": 443},
    ),
    (
        "RFC 7239 wins over the family",
        [(b"forwarded", b"for=192.0.2.7"), (b"x-forwarded-for", b"6.6.6.6")],
        {"client.address": "192.0.2.7"},
    ),
    ("RFC 7239, broken", [(b"forwarded", b'for="192.0.2.7; proto=https')], {"client.address": "10.0.0.9"}),
    (
        "RFC 7239, broken further left",
        [(b"forwarded", b'for="6.6.6.6, for=192.0.2.7;proto=https')],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.port": 443},
    ),
    (
        "RFC 7239, commas and quotes in strings",
        [
            (
                b"forwarded",
                rb'for=6.6.6.6, for=192.0.2.7;by="a\",b\\";proto=https , for="10.0.0.8:80";secret="x, for=6.6.6.6"',
            )
        ],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.port": 443},
    ),
    (
        "RFC 7239, several lines",
        [(b"forwarded", b"for=6.6.6.6"), (b"forwarded", b"for=192.0.2.7, "), (b"forwarded", b"for=10.0.0.8")],
        {"client.address": "192.0.2.7"},
    ),
    (
        "each hop its own scheme and host",
        [
            (b"x-forwarded-for", b"6.6.6.6, 192.0.2.7, 10.0.0.8"),
            (b"x-forwarded-proto", b"http, https, http"),
            (b"x-forwarded-host", b"evil.test, shop.example, inner.test"),
        ],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.address": "shop.example", "server.port": 443},
    ),
    (
        "a scheme beside a host that is none",
        [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"a b/c")],
        {"client.address": "10.0.0.9", "url.scheme": "https", "server.port": 443},
    ),
    *(
        (f"the address {node.decode()}", [(b"x-forwarded-for", node)], {"client.address": "10.0.0.9"})
        for node in (b"999.1.1.1", b"1.2.3.4.5", b"[:::::]", b"12345::1", b"[192.0.2.7]", b"192.0.2.7:x", b"1::2:" * 50)
    ),
]
BEHIND: dict[str, Any] = {"url.scheme": "http", "server.address": "shop.test", "server.port": 80}
SHOWN = ("client.address", "url.scheme", "server.address", "server.port")


@pytest.mark.parametrize(("headers", "expected"), [row[1:] for row in FORWARDING], ids=[row[0] for row in FORWARDING])
def test_a_trusted_proxy_speaks_for_the_client(
    spans: CapturedSpans, headers: Headers, expected: dict[str, Any]
) -> None:
    """The right-most hop that is no proxy of ours counts, for address, scheme and host; the peer stays the socket's."""
    scope = http_scope(client=PROXY, headers=[(b"host", b"shop.test"), *headers])
    attributes = seen(spans, scope, trusted_proxies="10.0.0.0/8")

    assert {key: attributes[key] for key in SHOWN} == {**BEHIND, **expected}
    assert (attributes["network.peer.address"], attributes["network.peer.port"]) == PROXY


@pytest.mark.parametrize("headers", [row[1] for row in FORWARDING], ids=[row[0] for row in FORWARDING])
@pytest.mark.parametrize(
    ("client", "proxies"),
    [(PROXY, ()), (PROXY, "192.168.0.0/16"), (("192.0.2.66", 1), "10.0.0.0/8"), (None, "10.0.0.0/8")],
    ids=["none are trusted", "others are trusted", "a stranger", "a unix socket"],
)
def test_nobody_else_does(spans: CapturedSpans, headers: Headers, client: Any, proxies: Any) -> None:
    """From anyone who is no trusted proxy, and by default from everyone, the forwarding headers mean nothing."""
    scope = http_scope(client=client, headers=[(b"host", b"shop.test"), *headers])
    attributes = seen(spans, scope, trusted_proxies=proxies)

    assert {key: attributes.get(key) for key in SHOWN} == {**BEHIND, "client.address": client and client[0]}


def test_an_ipv4_proxy_on_an_ipv6_socket_is_trusted(spans: CapturedSpans) -> None:
    """`::ffff:10.0.0.9` is 10.0.0.9."""
    scope = http_scope(client=("::ffff:10.0.0.9", 1), headers=[(b"x-forwarded-for", b"192.0.2.7")])

    assert seen(spans, scope, trusted_proxies="10.0.0.0/8")["client.address"] == "192.0.2.7"


MANY: list[tuple[str, Headers]] = [
    ("X-Forwarded-For", [(b"x-forwarded-for", b"6.6.6.6," * 7500 + b"192.0.2.7")]),
    ("X-Forwarded-For of many lines", [(b"x-forwarded-for", b"6.6.6.6")] * 7500 + [(b"x-forwarded-for", b"192.0.2.7")]),
    ("Forwarded", [(b"forwarded", b"for=6.6.6.6," * 5000 + b"for=192.0.2.7")]),
    ("Forwarded with quotes", [(b"forwarded", b'for="6.6.6.6",' * 4000 + b'for="192.0.2.7"')]),
    ("Forwarded with an open quote", [(b"forwarded", b'"' + b"\\" * 60000 + b",for=192.0.2.7")]),
]


@pytest.mark.parametrize("headers", [row[1] for row in MANY], ids=[row[0] for row in MANY])
def test_what_a_stranger_has_written_is_not_read(headers: Headers) -> None:
    """Sixty thousand bytes to the left of the trusted proxy's own words are not gone through item by item."""
    steps = 0

    def count(*_: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    scope, proxies = http_scope(client=PROXY), TrustedProxies("10.0.0.0/8")
    before = sys.gettrace()
    sys.settrace(count)
    try:
        forwarded = read_forwarded(scope, headers, proxies)
    finally:
        sys.settrace(before)

    assert forwarded == Forwarded("192.0.2.7")
    assert steps < 1000 + 3 * len(headers)


@pytest.mark.parametrize("header", [b"forwarded", b"x-forwarded-for"])
def test_a_chain_of_trusted_addresses_is_not_followed_for_ever(header: bytes) -> None:
    """A header full of our proxies' addresses is read up to a limit that no chain of proxies reaches."""
    node = b"for=10.0.0.1" if header == b"forwarded" else b"10.0.0.1"
    asked: list[object] = []

    class Counting(TrustedProxies):
        def __contains__(self, address: object) -> bool:
            asked.append(address)
            return super().__contains__(address)

    proxies = Counting("10.0.0.0/8")
    for number in (1, 10, 5000):
        asked.clear()
        headers = [(header, b", ".join([b"for=192.0.2.7" if node[:1] == b"f" else b"192.0.2.7"] + [node] * number))]
        forwarded = read_forwarded(http_scope(client=PROXY), headers, proxies)
        assert forwarded.client == ("10.0.0.1" if number == 5000 else "192.0.2.7")
        assert len(asked) <= 40


def test_a_forwarded_scheme_of_a_socket_is_ws(spans: CapturedSpans) -> None:
    """A proxy that says https of a WebSocket means wss."""
    spans.clear()
    headers = [(b"host", b"shop.test"), (b"x-forwarded-proto", b"https")]
    app = responding({"type": "websocket.accept"}, {"type": "websocket.close"})
    drive(TraceMiddleware(app, trusted_proxies="127.0.0.1"), websocket_scope(headers=headers))

    attributes = attributes_of(spans.server)
    assert (attributes["url.scheme"], attributes["server.port"]) == ("wss", 443)


# --- protocol and user agent ---


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.0", "1.0"), ("1.1", "1.1"), ("2", "2"), ("2.0", "2"), ("3", "3"), ("3.0", "3"), ("", None), (None, None)],
)
def test_the_protocol_version_is_written_as_the_conventions_do(
    spans: CapturedSpans, version: str | None, expected: str | None
) -> None:
    """`2`, never `2.0`; left out when unknown; and no name, since it is http."""
    attributes = seen(spans, http_scope(http_version=version))

    assert attributes.get("network.protocol.version") == expected
    assert "network.protocol.name" not in attributes


def test_the_user_agent_is_text_whatever_its_bytes(spans: CapturedSpans) -> None:
    """Header values are latin-1, so none of them can fail."""
    scope = http_scope(headers=[(b"user-agent", b"M\xf6zilla \xff")])

    assert seen(spans, scope)["user_agent.original"] == "Mözilla ÿ"


# --- header capture ---


def captured(spans: CapturedSpans, headers: Headers, answer: Message | None = None, **options: Any) -> dict[str, Any]:
    spans.clear()
    app = responding(answer or start(200, [(b"x-id", b"r1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]), body())
    drive(TraceMiddleware(app, **options), http_scope(headers=headers))
    return {key: value for key, value in attributes_of(spans.server).items() if ".header." in key}


LINES: Headers = [
    (b"x-id", b"1"),
    (b"x-id", b"2"),
    (b"x-idle", b"3"),
    (b"authorization", b"Bearer abc"),
    (b"x-latin", b"\xe9"),
]


def test_no_header_is_captured_by_default(spans: CapturedSpans) -> None:
    """Headers are recorded only when they are asked for by name."""
    assert captured(spans, LINES) == {}


def test_captured_headers_are_lists_under_their_own_names(spans: CapturedSpans) -> None:
    """One item per header line, dashes kept, names exact and in any case; a header that is not there makes nothing."""
    options: dict[str, Any] = {
        "capture_request_headers": ["X-Id", "x-latin", "x-none"],
        "capture_response_headers": "X-ID",
    }

    assert captured(spans, LINES, **options) == {
        "http.request.header.x-id": ("1", "2"),
        "http.request.header.x-latin": ("é",),
        "http.response.header.x-id": ("r1",),
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("x-.*", ["x-id", "x-request-id", "x-tenant"]),
        ("X-(ID|tenant)", ["x-id", "x-tenant"]),
        (["id", "tenant", "x"], []),
        (".*-id", ["x-id", "x-request-id"]),
        (["x-[a-z]+", "accept"], ["accept", "x-id", "x-tenant"]),
        (".*", ["accept", "host", "x-id", "x-request-id", "x-tenant"]),
    ],
)
def test_a_name_in_the_options_may_be_a_pattern(spans: CapturedSpans, names: Any, expected: list[str]) -> None:
    """A regular expression matches whole header names in any case, as in the environment."""
    lines = [(name, b"1") for name in (b"host", b"accept", b"x-id", b"x-request-id", b"x-tenant")]
    prefix = "http.request.header."
    assert sorted(captured(spans, lines, capture_request_headers=names)) == [prefix + name for name in expected]


@pytest.mark.parametrize("option", ["capture_request_headers", "capture_response_headers"])
def test_a_wrong_pattern_of_names_raises_at_construction(option: str) -> None:
    """The message names the option and says what to write."""
    wrong: Any = {option: "*"}
    with pytest.raises(ValueError, match=rf"{option}: '\*' is not a regular expression .*'x-\.\*'"):
        TraceMiddleware(OK, **wrong)
    wrong = {option: 7}
    with pytest.raises(TypeError, match=f"{option}: 7 is not a string; write header names like 'x-request-id'"):
        TraceMiddleware(OK, **wrong)


def test_credentials_are_masked_though_they_are_asked_for(spans: CapturedSpans) -> None:
    """authorization, cookies and the like are recorded as present, without their value."""
    headers = [(b"authorization", b"Bearer a"), (b"cookie", b"a"), (b"proxy-authorization", b"b"), (b"x-api-key", b"c")]
    names = [name.decode() for name, _ in headers]
    options: dict[str, Any] = {"capture_request_headers": names, "capture_response_headers": "set-cookie"}

    assert captured(spans, headers, **options) == {
        "http.request.header.authorization": ("REDACTED",),
        "http.request.header.cookie": ("REDACTED",),
        "http.request.header.proxy-authorization": ("REDACTED",),
        "http.request.header.x-api-key": ("REDACTED",),
        "http.response.header.set-cookie": ("REDACTED", "REDACTED"),
    }


def test_names_in_redact_mask_captured_headers(spans: CapturedSpans) -> None:
    """`redact="x-id"` masks that header too; a callable may show what the standard list would hide."""

    def rule(name: str, value: str) -> str:
        return value[:6] + "***"

    assert captured(spans, LINES, capture_request_headers="x-id", redact="X-Id") == {
        "http.request.header.x-id": ("REDACTED", "REDACTED")
    }
    assert captured(spans, LINES, capture_request_headers="authorization", redact=rule) == {
        "http.request.header.authorization": ("Bearer***",)
    }


def test_the_environment_asks_for_headers_by_pattern(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variables hold regular expressions for whole names, and what must be masked."""
    prefix = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
    monkeypatch.setenv(prefix + "SERVER_REQUEST", "X-I.*, (")
    monkeypatch.setenv(prefix + "SERVER_RESPONSE", "x-id,set-cookie")
    monkeypatch.setenv(prefix + "SANITIZE_FIELDS", ".*idle")

    assert captured(spans, LINES) == {
        "http.request.header.x-id": ("1", "2"),
        "http.request.header.x-idle": ("REDACTED",),
        "http.response.header.x-id": ("r1",),
        "http.response.header.set-cookie": ("REDACTED", "REDACTED"),
    }


def test_a_response_without_headers_has_none_to_capture(spans: CapturedSpans) -> None:
    """`headers` is optional in a response, and may be any iterable: the server gets it whole."""
    options = {"capture_response_headers": "x-id"}
    assert captured(spans, [], {"type": "http.response.start", "status": 200}, **options) == {}

    once: Message = {"type": "http.response.start", "status": 200, "headers": iter([(b"x-id", b"1")])}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(once)
        await send(body())

    served = drive(TraceMiddleware(app, capture_response_headers="x-id"))
    assert served.headers == [(b"x-id", b"1")]
