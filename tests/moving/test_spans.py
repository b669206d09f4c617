"""Names and values of SERVER spans: each cell of the page is what a run of that library shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind, set_span_in_context

from tests.support.asgi import attributes_of
from tests.support.moving import NOTHING, PAGE, Columns, listed
from tests.support.moving_server import contrib, environment, shown

from .shop import LIBRARIES, PACKED, REQUESTS, asked, instrumented_once, shop

ATTRIBUTES = Columns("Attributes of a SERVER span")
BEHAVIOUR = Columns("Names and ends")

# The row, the request that shows it, and all the names that it may have.
WHERE = {
    "method": ("an order", "http.request.method http.method"),
    "an unknown method, `BREW`": ("BREW", "http.request.method http.method"),
    "that method as sent": ("BREW", "http.request.method_original"),
    "path": ("an order", "url.path http.target"),
    "query": ("an order", "url.query http.url"),
    "scheme": ("an order", "url.scheme http.scheme"),
    "host that was asked for": ("an order", "server.address http.host http.server_name"),
    "its port": ("an order", "server.port net.host.port"),
    "caller": ("an order", "client.address net.peer.ip"),
    "peer": ("an order", "network.peer.address network.peer.port net.peer.ip net.peer.port client.port"),
    "HTTP version": ("an order", "network.protocol.version http.flavor"),
    "user agent": ("an order", "user_agent.original http.user_agent"),
    "user agent of a bot": ("a bot", "user_agent.synthetic.type"),
    "status code": ("an order", "http.response.status_code http.status_code"),
    "route": ("an order", "http.route"),
    "error of a 503": ("unavailable", "error.type"),
    "error of an exception `shop.OutOfStock`": ("failing", "error.type"),
    "its status code": ("failing", "http.response.status_code http.status_code"),
    "status code of a WebSocket": ("a socket", "http.response.status_code http.status_code"),
    "protocol of a WebSocket": ("a socket", "network.protocol.name"),
    "its messages and end": (
        "a socket",
        "asgi_trace.websocket.messages_received asgi_trace.websocket.messages_sent asgi_trace.websocket.close_code",
    ),
}


def server(library: str, request: str) -> ReadableSpan | None:
    """The SERVER span, where the library makes one."""
    return next(iter(asked(library, request).spans.of_kind(SpanKind.SERVER)), None)


def found(library: str, request: str, names: str) -> dict[str, Any]:
    """Those of the names that the span has, with their values."""
    span = server(library, request)
    attributes = {} if span is None else attributes_of(span)
    return {name: attributes[name] for name in names.split() if name in attributes}


def in_row(request: str, names: str) -> Callable[[str], str]:
    """What a row says of a library: names, and each value that differs from ours."""

    def cell(library: str) -> str:
        ours = found("here", request, names).values()
        texts = []
        for name, value in found(library, request, names).items():
            texts.append(f"`{name}`" if value in ours else f"`{name}`: `{_short(value)}`")
        return ", ".join(texts) or NOTHING

    return cell


def _short(value: object) -> str:
    return str(value).replace(OWN, "shop.")


OWN = "tests.moving.shop."
for _title, (_request, _names) in WHERE.items():
    ATTRIBUTES(_title)(in_row(_request, _names))


@pytest.mark.parametrize("row", ATTRIBUTES.titles())
def test_attributes(row: str) -> None:
    """A row of attributes has the names of every library, and says yes where name and value are ours."""
    ATTRIBUTES.check(row)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_attribute_has_a_row(library: str) -> None:
    """No library puts an attribute on a SERVER span that the table does not have."""
    shown = {name for request in REQUESTS for name in attributes_of_server(library, request)}
    assert shown - {name for _, names in WHERE.values() for name in names.split()} == set()


def attributes_of_server(library: str, request: str) -> dict[str, Any]:
    span = server(library, request)
    return {} if span is None else attributes_of(span)


def name_of(request: str) -> Callable[[str], str]:
    def cell(library: str) -> str:
        span = server(library, request)
        return NOTHING if span is None else f"`{span.name}`"

    return cell


BEHAVIOUR("name")(name_of("an order"))
BEHAVIOUR("name, no route matched")(name_of("nowhere"))
BEHAVIOUR("name, unknown method")(name_of("BREW"))
BEHAVIOUR("name of a WebSocket")(name_of("a socket"))


@BEHAVIOUR("instrumentation scope")
def scope(library: str) -> str:
    span = server(library, "an order")
    assert span is not None
    assert span.instrumentation_scope is not None
    return f"`{span.instrumentation_scope.name}`"


@BEHAVIOUR("other spans of a request")
def others(library: str) -> str:
    names = Counter(span.name for span in asked(library, "an order").spans if span.kind is not SpanKind.SERVER)
    return ", ".join(f"`{name}`" + f", {count} times" * (count > 1) for name, count in names.items()) or NOTHING


@BEHAVIOUR("of a stream of three chunks")
def of_a_stream(library: str) -> str:
    return str(len([span for span in asked(library, "a stream").spans if span.kind is not SpanKind.SERVER]))


@BEHAVIOUR("of a background task")
def of_a_background_task(library: str) -> str:
    names = [span.name for span in asked(library, "background").spans if "ackground" in span.name]
    return listed(name for name in names if not name.startswith("GET "))


@BEHAVIOUR("ends with")
def end(library: str) -> str:
    PACKED.clear()
    span = asked.__wrapped__(library, "background").server
    assert span.end_time is not None
    return "the last byte" if span.end_time <= PACKED[0] else "the last background task"


def status_of(request: str) -> Callable[[str], str]:
    def cell(library: str) -> str:
        span = server(library, request)
        assert span is not None
        code, description = span.status.status_code.name, span.status.description
        return f"`{code}`" if description is None else f"`{code}`: `{description}`"

    return cell


BEHAVIOUR("status, an exception")(status_of("failing"))
BEHAVIOUR("status, a 503")(status_of("unavailable"))
BEHAVIOUR("status, a 404")(status_of("nowhere"))


@BEHAVIOUR("events of an exception")
def events(library: str) -> str:
    span = server(library, "failing")
    assert span is not None
    return listed(event.name for event in span.events)


@BEHAVIOUR("attributes of that event")
def event_attributes(library: str) -> str:
    span = server(library, "failing")
    assert span is not None
    return listed(sorted(name for event in span.events for name in event.attributes or ()))


@BEHAVIOUR("kind")
def kind(library: str) -> str:
    span = server(library, "an order")
    assert span is not None
    return f"`{span.kind.name}`"


@BEHAVIOUR("kind and parent, where a span is current in the server's task and the caller sends none")
def with_a_current_span(library: str) -> str:
    current = TracerProvider(shutdown_on_exit=False).get_tracer("server").start_span("serving")
    token = attach(set_span_in_context(current))
    try:
        spans = asked.__wrapped__(library, "an order").spans
    finally:
        detach(token)
        current.end()
    ids = {span.context.span_id for span in spans if span.context is not None}
    (entry,) = [span for span in spans if span.parent is None or span.parent.span_id not in ids]
    return f"`{entry.kind.name}`, " + ("no parent" if entry.parent is None else "that span")


@pytest.mark.parametrize("row", BEHAVIOUR.titles())
def test_behaviour(row: str) -> None:
    """A row of names, statuses and other spans says what every library shows."""
    BEHAVIOUR.check(row)


def test_contribs_middleware_alone_knows_no_route() -> None:
    """Around a FastAPI application, contrib's ASGI middleware names the span after the path, and has no route."""
    assert "names the span after the path (`GET /orders/7`) and has no `http.route`" in PAGE.text
    scope, script = REQUESTS["an order"]
    side = shown(contrib(shop(), exclude_spans=["receive", "send"]), dict(scope), script=script)
    assert side.names == ["GET /orders/7"]
    assert "http.route" not in side.attributes


@pytest.mark.parametrize("library", ["contrib", "contrib, `http`"])
def test_both_conventions_are_the_two_columns_together(library: str) -> None:
    """With `http/dup` contrib writes the names of both columns."""
    scope, script = REQUESTS["an order"]
    with environment(OTEL_SEMCONV_STABILITY_OPT_IN="http/dup"), instrumented_once():
        both = shown(LIBRARIES[library], dict(scope), script=script).attributes
    assert attributes_of_server(library, "an order").keys() - both.keys() == set()
