"""What the encoder of facts remembers: within bounds, apart for each redaction, never a secret; the same bytes."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("asgi_trace._sdk.encoder", reason="this SDK is older than our spans", exc_type=ImportError)

from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from asgi_trace._options.redact import Redaction
from asgi_trace._propagation.traceparent import read_remote_parent
from asgi_trace._sdk import encoder as encoder_module
from asgi_trace._sdk import facts_encoding
from asgi_trace._sdk.encoder import SpanEncoder, official_bytes
from asgi_trace._sdk.facts_encoding import ServerFactsEncoder
from asgi_trace._sdk.span import readable_spans
from asgi_trace._sdk.tracer import TracerProvider
from asgi_trace._semconv.server import ServerDescription, server_facts

from ..support.asgi import TRACEPARENT, http_scope

DESCRIPTION = ServerDescription(Redaction())
TRACER: Any = TracerProvider(ALWAYS_ON, shutdown_on_exit=False).get_tracer("test")


def served(description: ServerDescription = DESCRIPTION, status: int = 200, **keys: Any) -> Any:
    """The span of a request that was served, with its facts as they are."""
    headers = [(b"host", b"shop.test"), *keys.pop("headers", ())]
    scope = http_scope(headers=headers, **{"raw_path": b"/items/42", "client": ("203.0.113.7", 51123), **keys})
    found = server_facts(scope, dict(headers), "GET", description)
    assert found is not None
    span = TRACER.start_from_facts("GET", SpanKind.SERVER, read_remote_parent(TRACEPARENT), found, 1)
    span.finish((status, "/items/{id}"), "GET", "GET /items/{id}", 2)
    return span


def same(encoder: SpanEncoder, span: Any) -> bool:
    """Whether a span has the official bytes, at its first encoding and when everything is remembered."""
    first, second = encoder.encode([span]), encoder.encode([span])
    return first == second == official_bytes(readable_spans([span]))


REQUESTS: list[dict[str, Any]] = [
    *({"client": ("203.0.113.7", port)} for port in (1, 80, 127, 128, 16383, 16384, 51123, 65535, 65536, 1 << 20)),
    *({"client": ("a" * length, 51123)} for length in (1, 40, 256, 300)),
    *(
        {"query_string": query}
        for query in (b"", b"a", b"page=2", b"a=\xff", b"a=%C3%A9", b"q=" + b"x" * 300, b"a=\xc3\xa9")
    ),
    *({"query_string": query} for query in (b"token=abc", b"page=2&TOKEN=abc", b"q=" + b"x" * 3000, b"t%6Fken=abc")),
    *({"raw_path": path} for path in (b"/", b"/" + b"x" * 62, b"/" + b"x" * 63, b"/\xff", b"/a?b=c", b"/" * 3000)),
    *({"headers": [(b"user-agent", agent)]} for agent in (b"", b"curl/8", b"x" * 256, b"x" * 257, b"\xe9")),
    {"scheme": "https", "http_version": "2"},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_the_bytes_are_the_same_again_and_again(request_: dict[str, Any]) -> None:
    """Nothing that is remembered differs from what is encoded anew, alone and after all the others."""
    encoder = SpanEncoder()
    assert same(encoder, served(**request_))
    for other in REQUESTS:
        assert same(encoder, served(**other))
    assert same(encoder, served(**request_))


def test_each_redaction_is_its_own() -> None:
    """A query that one middleware may show is masked for another one, in either order."""
    strict, plain = ServerDescription(Redaction("page")), ServerDescription(Redaction())
    for first, second in ((strict, plain), (plain, strict)):
        encoder = SpanEncoder()
        for description in (first, second, first):
            span = served(description, query_string=b"page=2")
            assert same(encoder, span)
            assert (b"page=2" in encoder.encode([span])) == (description is plain)


def test_no_secret_is_remembered() -> None:
    """A query in which something is masked is read anew each time."""
    encoder = ServerFactsEncoder()
    for query in (b"token=abc", b"page=2", b"a=\xff", b"q=" + b"x" * 300, b""):
        list(encoder.fields(served(query_string=query)._facts))
    assert sorted(encoder._queries) == [b"", b"a=\xff", b"page=2"]


def test_what_is_remembered_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts, queries, addresses, user agents and descriptions: past the bound each is encoded anew."""
    monkeypatch.setattr(facts_encoding, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(encoder_module, "MAX_VALUES", 4)
    encoder = SpanEncoder()
    for number in range(20):
        description = DESCRIPTION if number % 2 else ServerDescription(Redaction())
        for _ in range(2):
            headers = [(b"user-agent", b"agent %d" % number)]
            client = f"203.0.113.{number}", 51123
            query = b"page=%d" % number
            shared: dict[str, Any] = {
                "http_version": "1.1" if number % 3 else "2",
                "scheme": "http" if number % 5 else "https",
            }
            span = served(description, query_string=query, client=client, headers=headers, **shared)
            assert same(encoder, span)
    assert len(encoder._facts) == 4
    remembered: Any = encoder._facts[DESCRIPTION]
    sizes = [len(remembered._shared), len(remembered._queries), len(remembered._peers), len(remembered._user_agents)]
    assert sizes == [3, 3, 3, 3]
