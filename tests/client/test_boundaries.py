"""What holds exactly at a limit of a client's call, and on the ways out of it that are hardly ever taken."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import httpx
import pytest

from asgi_trace._client.exceptions import without_secrets
from asgi_trace._client.start import start
from asgi_trace._options.redact import Redaction
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.transports import Answer, send


class Exits(Answer):
    """Keeps what its exit is called with."""

    seen: tuple[Any, ...] = ()

    def __exit__(self, *arguments: Any) -> None:
        self.seen = arguments


class AsyncExits(httpx.AsyncBaseTransport):
    """The same for the other kind."""

    seen: tuple[Any, ...] = ()

    async def __aexit__(self, *arguments: Any) -> None:
        self.seen = arguments


@pytest.mark.parametrize("error", [None, RuntimeError("in the block")])
def test_the_transport_further_in_sees_how_its_block_ends(error: Exception | None) -> None:
    """Its exit gets the exception's class, the exception and the traceback, or nothing of them."""
    inner, async_inner = Exits(), AsyncExits()

    def synchronous() -> None:
        with TraceTransport(inner):
            if error is not None:
                raise error

    async def asynchronous() -> None:
        async with AsyncTraceTransport(async_inner):
            if error is not None:
                raise error

    for run, seen in ((synchronous, inner), (lambda: asyncio.run(asynchronous()), async_inner)):
        if error is None:
            run()
            assert seen.seen == (None, None, None)
            continue
        with pytest.raises(RuntimeError) as raised:
            run()
        assert seen.seen[:2] == (RuntimeError, error)
        assert raised.value is error
        assert seen.seen[2] is not None


@pytest.mark.parametrize("more", [-1, 0, 1, 5000])
def test_a_url_of_4096_characters_is_recorded_whole(spans: CapturedSpans, more: int) -> None:
    """A longer one is cut."""
    begin = "http://svc.test/"
    url = begin + "p" * (4096 - len(begin) + more)
    send(url)
    assert attributes_of(spans.client)["url.full"] == url[:4096]


@pytest.mark.parametrize(
    ("pattern", "host", "sent"),
    [
        ("api.test.", "api.test", True),
        ("api.test", "api.test.", True),
        ("API.test.", "api.TEST", True),
        (".api.test", "api.test", False),
        ("*.test.", "a.b.test", True),
        ("api.test.:8080", "api.test:8080", True),
        ("api.test.:8080", "api.test", False),
        ("api.tes", "api.test", False),
    ],
)
def test_a_dot_at_the_end_of_a_host_means_nothing(spans: CapturedSpans, pattern: str, host: str, sent: bool) -> None:
    """Neither in `propagate_to=` nor in the URL; one at the beginning does."""
    answer = Answer()
    send(f"http://{host}/", inner=answer, propagate_to=[pattern])
    assert ("traceparent" in answer.sent[-1]) is sent


def refused(text: str) -> Exception:
    """The exception of a library that refuses to send a header, and quotes it."""
    return httpx.LocalProtocolError(text)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"abc"), (b"cookie", b"abcdef")],
        [(b"cookie", b"abcdef"), (b"authorization", b"abc")],
        [(b"authorization", b"abc"), (b"x-api-key", b"abcdefghi"), (b"cookie", b"abcdef")],
        [(b"authorization", b"z"), (b"cookie", b"azb")],
        [(b"cookie", b"azb"), (b"authorization", b"z")],
        [(b"x-api-key", b"yz"), (b"authorization", b"zz"), (b"cookie", b"ayzzb")],
    ],
)
def test_a_secret_that_holds_another_is_masked_whole(headers: list[tuple[bytes, bytes]]) -> None:
    """The longest first, so that no end of it is left over."""
    longest = max((value for _, value in headers), key=len).decode()
    like = without_secrets(refused(f"illegal: {longest}"), headers, Redaction())
    assert str(like) == "illegal: REDACTED"


@pytest.mark.parametrize("depth", range(1, 8))
@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_secret_is_masked_however_deep_it_stands(depth: int, link: str) -> None:
    """In the chain of causes, by either of its two links, eight deep."""
    error: BaseException = ValueError("quotes S3CRET")
    for _ in range(depth - 1):
        outer = RuntimeError("in between")
        setattr(outer, link, error)
        error = outer
    top = refused("no")
    setattr(top, link, error)
    like: BaseException | None = without_secrets(top, [(b"authorization", b"S3CRET")], Redaction())
    texts = []
    while like is not None:
        texts.append(str(like))
        like = getattr(like, link)
    assert texts == ["no", *["in between"] * (depth - 1), "quotes REDACTED"]


@pytest.mark.parametrize("value", [True, None, 0, "", {}])
def test_only_false_opts_a_request_out(spans: CapturedSpans, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """`extensions={"asgi_trace": False}` means untraced, any other value nothing, and neither is logged."""
    send(request={"extensions": {"asgi_trace": value}})
    send(request={"extensions": {"asgi_trace": False}})
    assert len(spans) == 1
    assert caplog.records == []


@pytest.mark.parametrize("option", ["on_request", "on_response"])
def test_the_log_names_the_hook_that_failed(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    """Its option stands at the beginning of the one ERROR."""

    def failing(*arguments: object) -> None:
        raise RuntimeError("broken")

    transport: dict[str, Any] = {option: failing}
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        send(**transport)
    assert [record.getMessage() for record in caplog.records] == [
        f"{option} failed; the request goes on without it",
    ]
    assert len(spans) == 1


def test_a_call_that_ends_in_another_context_says_so_and_ends_its_span(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """The context that was current at its start cannot be restored there: one ERROR that names the step."""
    transport = TraceTransport(Answer())
    request = httpx.Request("GET", "http://svc.test/")
    call = contextvars.copy_context().run(start, transport._config, request)
    assert call is not None
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        call.failed(httpx.ConnectError("no"))
    assert [record.getMessage() for record in caplog.records if record.name == "asgi_trace"] == [
        "leaving the span's context failed; the request goes on without it"
    ]
    assert attributes_of(spans.client)["error.type"] == "httpx.ConnectError"


def test_causes_that_lead_in_a_circle_are_followed_only_so_far() -> None:
    """Two exceptions that are each other's cause are masked, and end."""
    first, second = refused("no S3CRET"), ValueError("quotes S3CRET")
    first.__cause__, second.__context__ = second, first
    like: BaseException | None = without_secrets(first, [(b"authorization", b"S3CRET")], Redaction())
    texts = []
    while like is not None:
        texts.append(str(like))
        like = like.__cause__ or like.__context__
    assert texts[:2] == ["no REDACTED", "quotes REDACTED"]
    assert len(texts) == 9
    assert "S3CRET" in str(first)
