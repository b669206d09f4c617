"""Hooks: what they see, what they may change, and that their failure changes nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import (
    get_current_span,
)

from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    send,
    send_through,
)

httpx = pytest.importorskip("httpx")


def test_hooks_see_the_request_and_the_response(local: Kit, spans: CapturedSpans) -> None:
    """Hooks get the real objects and may set what they like; headers that a hook writes are sent."""

    async def scenario(kit: Kit) -> None:
        seen: list[Any] = []

        def on_request(span: Any, request: Any) -> None:
            seen.append((request, get_current_span() is span))
            request.headers["x-hook"] = "1"
            span.set_attribute("hook.request", True)

        def on_response(span: Any, request: Any, response: Any) -> None:
            seen.append((request, response))
            span.set_attribute("error.type", "of the hook")

        sent: list[Any] = []
        given = kit.library.Response(500)

        def handler(request: Any) -> Any:
            sent.append(request.headers["x-hook"])
            return given

        transport = kit.Transport(kit.transport_of(handler), on_request=on_request, on_response=on_response)
        request = kit.library.Request("GET", kit.base)
        await send_through(kit, transport, request)
        assert seen == [(request, True), (request, given)]
        assert sent == ["1"]
        assert attributes_of(spans.client)["hook.request"] is True
        assert attributes_of(spans.client)["error.type"] == "of the hook"

    local.run(scenario)


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
def test_a_hook_that_fails_changes_nothing(
    local: Kit, spans: CapturedSpans, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """A failing hook is logged, each kind once as ERROR; request, response and span are what they would be."""

    async def scenario(kit: Kit) -> None:
        def broken(*arguments: Any) -> None:
            raise error("in the hook")

        transport = kit.Transport(
            kit.transport_of(lambda request: kit.library.Response(200)), on_request=broken, on_response=broken
        )
        with caplog.at_level(logging.ERROR, logger="asgi_trace"):
            for _ in range(3):
                response = await send_through(kit, transport, kit.library.Request("GET", kit.base))
                assert response.status_code == 200
        assert len(caplog.records) == 2
        assert [attributes_of(span)["http.response.status_code"] for span in spans] == [200, 200, 200]

    local.run(scenario)


def test_a_hook_may_stop_the_program(spans: CapturedSpans) -> None:
    """A KeyboardInterrupt inside of a hook is passed on; span and context are put away."""

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    before = otel_context.get_current()
    for option in ("on_request", "on_response"):
        hooks: dict[str, Any] = {option: interrupt}
        with pytest.raises(KeyboardInterrupt):
            send(**hooks)
        assert otel_context.get_current() == before
    assert [attributes_of(span)["error.type"] for span in spans] == ["KeyboardInterrupt", "KeyboardInterrupt"]
