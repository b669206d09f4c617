"""How much is recorded is not the caller's choice: text from the wire, exceptions and what is sent on have limits."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, attributes_of, drive, http_scope, responding, start, websocket_scope

LONG = 100_000
MOST = 4096


def wire(**keys: Any) -> dict[str, Any]:
    """A scope with these keys; `headers` stand beside the usual Host."""
    return http_scope(**{**keys, "headers": [(b"host", b"shop.test:8000"), *keys.get("headers", ())]})


FROM_THE_WIRE: list[tuple[str, dict[str, Any], str, str]] = [
    ("raw path", wire(raw_path=b"/" + b"p" * LONG), "url.path", "/ppp"),
    ("path alone", wire(path="/" + "p" * LONG, raw_path=None), "url.path", "/ppp"),
    ("query", wire(query_string=b"q=" + b"x" * LONG), "url.query", "q=xx"),
    ("query, one key", wire(query_string=b"q" * LONG), "url.query", "qqqq"),
    ("query that masking makes longer", wire(query_string=b"sig=1&" * 20_000), "url.query", "sig=REDACTED&"),
    ("user agent", wire(headers=[(b"user-agent", b"u" * LONG)]), "user_agent.original", "uuuu"),
    ("user agent, careful", wire(headers=[(b"user-agent", b"u" * LONG)], raw_path=None), "user_agent.original", "uuuu"),
    ("method", wire(method="M" * LONG), "http.request.method_original", "MMMM"),
    ("scheme", wire(scheme="s" * LONG), "url.scheme", "ssss"),
    ("version", wire(http_version="9" * LONG), "network.protocol.version", "9999"),
    ("client that a header made", wire(client=("c" * LONG, 1)), "client.address", "cccc"),
    ("the same with port 0", wire(client=("c" * LONG, 0)), "client.address", "cccc"),
    ("socket path", {**http_scope(server=("/" + "s" * LONG, None)), "headers": []}, "server.address", "/sss"),
    ("handshake's path", websocket_scope(raw_path=b"/" + b"w" * LONG), "url.path", "/www"),
]


@pytest.mark.parametrize(
    ("scope", "attribute", "begins"),
    [pytest.param(scope, attribute, begins, id=name) for name, scope, attribute, begins in FROM_THE_WIRE],
)
def test_text_from_the_wire_is_cut(spans: CapturedSpans, scope: dict[str, Any], attribute: str, begins: str) -> None:
    """At 4,096 characters a value, whichever key of the scope it comes from; the beginning stays."""
    app = OK if scope["type"] == "http" else responding({"type": "websocket.close"})
    drive(TraceMiddleware(app), scope)
    value = attributes_of(spans.server)[attribute]
    assert len(value) == MOST
    assert value.startswith(begins)
    assert all(not isinstance(other, str) or len(other) <= MOST for other in attributes_of(spans.server).values())


def test_a_character_that_the_cut_runs_through_does_no_harm(spans: CapturedSpans) -> None:
    """Bytes that are no ASCII are cut as bytes."""
    drive(TraceMiddleware(OK), wire(raw_path=b"/" + "ü".encode() * LONG))
    assert attributes_of(spans.server)["url.path"] == "/" + "ü" * 2047 + "\ufffd"


def test_text_of_a_usual_length_is_whole(spans: CapturedSpans) -> None:
    """4,096 characters are not cut, neither alone nor beside other long values."""
    path, query, agent = b"/" + b"p" * (MOST - 1), b"q" * MOST, b"u" * MOST
    drive(TraceMiddleware(OK), wire(raw_path=path, query_string=query, headers=[(b"user-agent", agent)]))
    attributes = attributes_of(spans.server)
    assert attributes["url.path"] == path.decode()
    assert attributes["url.query"] == query.decode()
    assert attributes["user_agent.original"] == agent.decode()


def test_a_long_host_is_none(spans: CapturedSpans) -> None:
    """No name is longer than 255 characters, so that a longer one is no server's address."""
    drive(TraceMiddleware(OK), http_scope(headers=[(b"host", b"h" * LONG)]))
    assert "server.address" not in attributes_of(spans.server)


def test_captured_headers_are_cut(spans: CapturedSpans) -> None:
    """Each line at 4,096 characters, in requests and in responses, also where masking makes it longer."""
    app = responding(start(200, [(b"x-big", b"r" * LONG)]), {"type": "http.response.body"})
    headers = [(b"x-big", b"a" * LONG), (b"x-big", b"b" * LONG), (b"referer", b"/?" + b"sig=1&" * 20_000)]
    traced = TraceMiddleware(app, capture_request_headers=["x-big", "referer"], capture_response_headers="x-.*")
    drive(traced, wire(headers=headers))
    attributes = attributes_of(spans.server)
    assert attributes["http.request.header.x-big"] == ("a" * MOST, "b" * MOST)
    assert attributes["http.response.header.x-big"] == ("r" * MOST,)
    (referer,) = attributes["http.request.header.referer"]
    assert len(referer) == MOST
    assert referer.startswith("/?sig=REDACTED&sig=REDACTED")


@pytest.mark.parametrize(
    "lines",
    [
        [(b"x-a", b"v" * 5000)] * 1000,
        [(b"x-%d" % number, b"v" * 5000) for number in range(1000)],
        [(b"x-" + b"n" * 100_000, b"v")],
        [(b"x-" + b"n" * 1000 + b"%d" % number, b"v") for number in range(1000)],
    ],
    ids=["lines of one name", "many names", "a long name", "many long names"],
)
def test_captured_headers_have_a_size_together(spans: CapturedSpans, lines: list[tuple[bytes, bytes]]) -> None:
    """With a pattern the caller chooses names and number of lines: 65,536 characters of them are recorded."""
    drive(TraceMiddleware(OK, capture_request_headers="x-.*"), wire(headers=[(b"x-first", b"1"), *lines]))
    captured = {key: value for key, value in attributes_of(spans.server).items() if ".header." in key}
    assert captured.pop("http.request.header.x-first") == ("1",)
    assert sum(len(key) + sum(map(len, value)) for key, value in captured.items()) <= 65_536 + 30 * len(captured)


def test_a_secret_is_masked_before_the_cut_and_after_it(spans: CapturedSpans) -> None:
    """A value that the cut runs through is masked like any other."""
    query = b"a=" + b"x" * (MOST - 20) + b"&token=" + b"s3cret" * 1000
    drive(TraceMiddleware(OK), wire(query_string=query))
    value = attributes_of(spans.server)["url.query"]
    assert len(value) <= MOST
    assert "s3" not in value
