"""The attributes of a SERVER span, from a scope: HTTP semantic conventions 1.44, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, drive, http_scope
from ..support.server_spans import seen, shown

Headers = list[tuple[bytes, bytes]]


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
