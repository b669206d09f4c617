"""Which address `trust=` judges: the one that the middleware knows, and none that any caller can claim."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, TRACEPARENT, drive, http_scope, responding, websocket_scope

PEER = ("127.0.0.1", 40000)
UNIX = None


def headers(**fields: str) -> list[tuple[bytes, bytes]]:
    """A traceparent, and these headers; `__` in a name parts lines of the same name."""
    named = [(name.split("__")[0].replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return [(b"traceparent", TRACEPARENT), *named]


CASES: list[tuple[str, Any, Any, dict[str, str], bool]] = [
    # what, trusted_proxies, peer, headers, is 10.0.0.0/8 continued?
    ("the peer itself", (), ("10.0.0.1", 1), {}, True),
    ("another peer", (), PEER, {}, False),
    ("a header beside no proxies", (), PEER, {"x_forwarded_for": "10.0.0.1"}, False),
    ("the proxy names a caller", "127.0.0.0/8", PEER, {"x_forwarded_for": "10.0.0.1"}, True),
    ("the proxy names another", "127.0.0.0/8", PEER, {"x_forwarded_for": "203.0.113.9"}, False),
    ("forged by the caller", "127.0.0.0/8", PEER, {"x_forwarded_for": "10.0.0.1, 203.0.113.9"}, False),
    ("in two lines", "127.0.0.0/8", PEER, {"x_forwarded_for": "10.0.0.1", "x_forwarded_for__2": "203.0.113.9"}, False),
    ("through two proxies", ["127.0.0.0/8", "192.0.2.1"], PEER, {"x_forwarded_for": "10.0.0.1, 192.0.2.1"}, True),
    ("all are proxies", ["127.0.0.0/8", "10.0.0.0/8"], PEER, {"x_forwarded_for": "10.0.0.1, 10.0.0.2"}, True),
    ("the proxy itself asks", ["127.0.0.0/8", "10.0.0.0/8"], ("10.0.0.2", 1), {}, True),
    ("a proxy in a trusted network", "10.0.0.0/8", ("10.0.0.2", 1), {"x_forwarded_for": "203.0.113.9"}, False),
    ("Forwarded", "127.0.0.0/8", PEER, {"forwarded": "for=10.0.0.1;proto=https"}, True),
    ("Forwarded with a port", "127.0.0.0/8", PEER, {"forwarded": 'for="10.0.0.1:4711"'}, True),
    ("both agree", "127.0.0.0/8", PEER, {"forwarded": "for=10.0.0.1", "x_forwarded_for": "10.0.0.1"}, True),
    ("both disagree", "127.0.0.0/8", PEER, {"forwarded": "for=10.0.0.1", "x_forwarded_for": "203.0.113.9"}, False),
    (
        "both disagree, both trusted",
        "127.0.0.0/8",
        PEER,
        {"forwarded": "for=10.0.0.1", "x_forwarded_for": "10.0.0.2"},
        False,
    ),
    ("unknown", "10.0.0.0/8", ("10.0.0.2", 1), {"forwarded": "for=unknown"}, False),
    ("obfuscated", "10.0.0.0/8", ("10.0.0.2", 1), {"forwarded": "for=_hidden"}, False),
    ("no for", "10.0.0.0/8", ("10.0.0.2", 1), {"forwarded": "proto=https"}, False),
    ("garbage", "10.0.0.0/8", ("10.0.0.2", 1), {"x_forwarded_for": "10.0.0.1, what?"}, False),
    ("an empty list", "10.0.0.0/8", ("10.0.0.2", 1), {"x_forwarded_for": ""}, False),
    ("a mapped address", "127.0.0.0/8", PEER, {"x_forwarded_for": "::ffff:10.0.0.1"}, True),
    (
        "a chain without end",
        ["127.0.0.0/8", "10.0.0.0/8"],
        PEER,
        {"x_forwarded_for": ", ".join(["10.0.0.1"] * 40)},
        False,
    ),
    ("scheme and host alone", ["127.0.0.0/8", "10.0.0.0/8"], ("10.0.0.2", 1), {"x_forwarded_proto": "https"}, True),
    ("unix, trusted", "unix", UNIX, {"x_forwarded_for": "10.0.0.1"}, True),
    ("unix, in a list", ["192.0.2.1", "unix"], UNIX, {"x_forwarded_for": "10.0.0.1, 192.0.2.1"}, True),
    ("unix, another caller", "unix", UNIX, {"x_forwarded_for": "203.0.113.9"}, False),
    ("unix, says nothing", "unix", UNIX, {}, False),
    ("unix, not trusted", "127.0.0.0/8", UNIX, {"x_forwarded_for": "10.0.0.1"}, False),
    ("granian on a unix socket", "unix", ("", "0"), {"x_forwarded_for": "10.0.0.1"}, True),
    ("granian, not trusted", (), ("", "0"), {}, False),
    ("unix does not trust peers with an address", "unix", PEER, {"x_forwarded_for": "10.0.0.1"}, False),
]
REWRITTEN: list[tuple[str, Any, Any, dict[str, str]]] = [
    ("port 0", (), ("10.0.0.1", 0), {"x_forwarded_for": "10.0.0.1"}),
    ("port 0 without a header", (), ("10.0.0.1", 0), {}),
    ("port 0 of a proxy", "10.0.0.0/8", ("10.0.0.2", 0), {"x_forwarded_for": "10.0.0.1"}),
    ("the port copied, too", (), ("10.0.0.1", 4711), {"x_forwarded_for": "10.0.0.1:4711"}),
    ("from Forwarded", (), ("10.0.0.1", 4711), {"forwarded": 'for="10.0.0.1:4711"'}),
    ("from the left of a long list", (), ("10.0.0.1", 1), {"x_forwarded_for": "10.0.0.1" + ", 192.0.2.1" * 50}),
    ("beside other proxies", "192.0.2.1", ("10.0.0.1", 1), {"x_forwarded_for": "10.0.0.1"}),
]


def ids(case: tuple[Any, ...]) -> str:
    return str(case[0])


def serve(spans: CapturedSpans, kind: str, client: Any, fields: dict[str, str], **options: Any) -> bool:
    """Was the caller's trace continued?"""
    spans.clear()
    app = TraceMiddleware(OK if kind == "http" else responding({"type": "websocket.close"}), **options)
    keys = {"client": client, "headers": headers(**fields)}
    drive(app, http_scope(**keys) if kind == "http" else websocket_scope("/", **keys))
    return spans.server.parent is not None


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_networks_judge_the_address_that_is_known(
    spans: CapturedSpans, case: tuple[str, Any, Any, dict[str, str], bool], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The furthest address that trusted proxies vouch for, else the socket's peer; and nothing is said of it."""
    _, proxies, client, fields, expected = case

    assert serve(spans, kind, client, fields, trust="10.0.0.0/8", trusted_proxies=proxies) is expected
    assert not caplog.records


@pytest.mark.parametrize("case", REWRITTEN, ids=ids)
def test_an_address_from_a_header_is_not_known(
    spans: CapturedSpans, case: tuple[str, Any, Any, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that the server made of a header is untrusted; one warning for the middleware names the remedy."""
    _, proxies, client, fields = case
    app = TraceMiddleware(OK, trust="10.0.0.0/8", trusted_proxies=proxies)
    for _ in range(3):
        drive(app, http_scope(client=client, headers=headers(**fields)))

    assert [span.parent for span in spans] == [None] * 3
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asgi_trace", logging.WARNING)
    assert "--no-proxy-headers" in record.getMessage()
    assert "trusted_proxies" in record.getMessage()


@pytest.mark.parametrize("case", REWRITTEN, ids=ids)
@pytest.mark.parametrize(("trust", "expected"), [(True, True), (False, False), (lambda scope: True, True)])
def test_networks_alone_ask_for_the_address(
    spans: CapturedSpans,
    case: tuple[str, Any, Any, dict[str, str]],
    trust: Any,
    expected: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With True, False and a callable nothing is said: they do not depend on the address."""
    _, proxies, client, fields = case

    assert serve(spans, "http", client, fields, trust=trust, trusted_proxies=proxies) is expected
    assert not caplog.records


@pytest.mark.parametrize(
    ("address", "spoken", "known"),
    [
        ("10.0.0.1", "110.0.0.1", True),
        ("10.0.0.1", "10.0.0.12", True),
        ("10.0.0.1", "10.0.0.1.example", True),
        ("10.0.0.1", "192.0.2.7, 10.0.0.1", False),
        ("10.0.0.1", "10.0.0.1:80", False),
        ("::1", "fe80::1", True),
        ("::1", "[::1]:80", False),
    ],
)
def test_an_address_inside_of_another_one_is_another_one(
    spans: CapturedSpans, address: str, spoken: str, known: bool
) -> None:
    """The whole address must stand in the header."""
    options = {"trust": ["10.0.0.0/8", "::1"]}
    assert serve(spans, "http", (address, 1), {"x_forwarded_for": spoken}, **options) is known


@pytest.mark.parametrize(
    ("proxies", "client", "fields", "address"),
    [
        ("127.0.0.0/8", PEER, {"x_forwarded_for": "203.0.113.9"}, "203.0.113.9"),
        ("127.0.0.0/8", PEER, {}, "127.0.0.1"),
        ("127.0.0.0/8", PEER, {"forwarded": "for=_hidden"}, None),
        ("unix", UNIX, {"x_forwarded_for": "203.0.113.9"}, "203.0.113.9"),
        ("127.0.0.0/8", ("192.0.2.4", 1), {"x_forwarded_for": "203.0.113.9"}, "192.0.2.4"),
        ((), ("192.0.2.4", 1), {"x_forwarded_for": "203.0.113.9"}, "192.0.2.4"),
        ((), UNIX, {"x_forwarded_for": "203.0.113.9"}, None),
        ((), ("10.0.0.1", 0), {}, None),
        ("127.0.0.0/8", ("127.0.0.1", 0), {"x_forwarded_for": "203.0.113.9"}, None),
        ("127.0.0.0/8", ("10.0.0.1", 4711), {"x_forwarded_for": "10.0.0.1"}, None),
    ],
)
def test_a_callable_sees_the_vouched_address(
    spans: CapturedSpans,
    proxies: Any,
    client: Any,
    fields: dict[str, str],
    address: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It stands in the scope while the callable runs, and not when the application sees it."""
    seen: list[Any] = []
    scope = http_scope(client=client, headers=headers(**fields))

    def trust(scope: Any) -> bool:
        seen.append(scope["asgi_trace.client"])
        return True

    drive(TraceMiddleware(OK, trust=trust, trusted_proxies=proxies), scope)

    assert seen == [address]
    assert "asgi_trace.client" not in scope
    assert not caplog.records


def test_a_callable_that_raises_leaves_nothing_in_the_scope(spans: CapturedSpans) -> None:
    """The answer is no, and the address is gone."""

    def broken(scope: Any) -> bool:
        raise RuntimeError("no rules")

    scope = http_scope(client=PEER, headers=headers())
    drive(TraceMiddleware(OK, trust=broken, trusted_proxies="127.0.0.0/8"), scope)

    assert spans.server.parent is None
    assert "asgi_trace.client" not in scope


@pytest.mark.parametrize(
    ("peer", "text", "named"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1:4711", True),
        ("10.0.0.1", "1.2.3.4,10.0.0.1,5.6.7.8", True),
        ("10.0.0.1", "1.2.3.4, 10.0.0.1 , 5.6.7.8", True),
        ("10.0.0.1", "110.0.0.1", False),
        ("10.0.0.1", "10.0.0.11", False),
        ("10.0.0.1", "1.10.0.0.1", False),
        ("10.0.0.1", "10.0.0.1.5", False),
        ("10.0.0.1", "::10.0.0.1", False),
        ("10.0.0.1", "x10.0.0.1", False),
        ("10.0.0.1", "10.0.0.1x", False),
        ("10.0.0.1", "10x0x0x1", False),
        ("10.0.0.1", "", False),
        ("10::1", "10::1", True),
        ("10::1", "[10::1]:443", True),
        ("10::1", "110::1", False),
        ("10::1", "10::11", False),
        ("10::1", "a:10::1", False),
    ],
)
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
def test_a_peer_that_the_request_names_is_not_known(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, peer: str, text: str, named: bool, header: str
) -> None:
    """Its address stands there whole, in a header that servers read: then the server may have taken it from there."""
    value = f'for="{text}";proto=https' if header == "forwarded" else text
    scope = http_scope(client=(peer, 4711), headers=[*headers(), (header.encode(), value.encode())])
    drive(TraceMiddleware(OK, trust=["10.0.0.0/8", "10::/16"]), scope)
    is_known = not named or header == "x-real-ip"
    assert (spans.server.parent is not None) is is_known
    assert len(caplog.records) == (0 if is_known else 1)
