"""Exceptions that quote a credential: it stands in no part of a span."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_trace.testing import CapturedSpans

from ..support.http_clients import Kit
from ..support.transports import (
    exceptions_of,
    response_of,
    send,
    send_through,
    traced,
)

httpx = pytest.importorskip("httpx")


@pytest.mark.parametrize("version", ["1.1"], indirect=True)
def test_a_header_that_is_refused_is_not_quoted(kit: Kit, spans: CapturedSpans) -> None:
    """A credential that the library refuses to send, and quotes, is in no part of the span; the caller sees it."""

    async def scenario(kit: Kit) -> None:
        headers = {"authorization": "Bearer SECRET\n", "x-token": "SECRET"}
        async with traced(kit, redact="x-token") as client:
            with pytest.raises(kit.library.LocalProtocolError, match="SECRET"):
                await kit.call(client.get(f"{kit.base}/headers", headers=headers))
        recorded = spans.client.to_json()
        assert "SECRET" not in recorded
        assert spans.client.status.description is not None
        assert "REDACTED" in spans.client.status.description
        assert exceptions_of(spans.client) == [f"{kit.name}.LocalProtocolError"]
        assert "Traceback" in recorded

    kit.run(scenario)


def test_a_quoted_secret_is_masked_in_every_cause() -> None:
    """Of a chain of exceptions that quote a credential, each is masked; others stay."""
    from asgi_trace._client.exceptions import without_secrets
    from asgi_trace._options.redact import Redaction

    raw_headers = [(b"Authorization", b" S\xc3\n1 "), (b"x-id", b"7"), (b"cookie", b"")]
    cause = ValueError("illegal: " + repr(raw_headers[0][1]))
    try:
        raise httpx.LocalProtocolError("no: S\xc3\n1 in 7") from cause
    except httpx.LocalProtocolError as exc:
        error = exc
    like = without_secrets(error, raw_headers, Redaction())
    assert (type(like), str(like), str(like.__cause__)) == (type(error), "no: REDACTED in 7", "illegal: b' REDACTED '")
    assert like.__traceback__ is error.__traceback__
    assert "S\xc3" in str(error)
    assert error.__cause__ is cause
    assert without_secrets(error, raw_headers[1:], Redaction()) is error
    assert without_secrets(cause, raw_headers, Redaction()) is cause
    assert "7" not in str(without_secrets(error, raw_headers, Redaction("x-id")))


def test_a_quoted_secret_is_masked_inside_of_a_group(spans: CapturedSpans) -> None:
    """A group whose member, or a cause behind it, quotes a credential is recorded without it, and raised as it is."""
    group: Any = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        group = pytest.importorskip("exceptiongroup").ExceptionGroup
    quoting = httpx.LocalProtocolError("illegal header value 'Bearer SECRET'")
    behind = RuntimeError("cannot send")
    behind.__cause__ = quoting
    for error in (group("g", [quoting]), group("g", [group("h", [ValueError("x"), quoting])]), behind):
        spans.clear()

        def handler(request: Any, error: BaseException = error) -> Any:
            raise error

        with pytest.raises(type(error)) as caught:
            send(inner=httpx.MockTransport(handler), request={"headers": {"authorization": "Bearer SECRET"}})
        assert caught.value is error
        recorded = spans.client.to_json()
        assert "SECRET" not in recorded
        assert "REDACTED" in recorded
    assert "SECRET" in str(quoting)


@pytest.mark.parametrize("when", ["inner transport", "body", "cause", "own text"])
def test_a_signed_url_in_an_exceptions_text_is_masked(local: Kit, spans: CapturedSpans, when: str) -> None:
    """What `raise_for_status()` says of a signed URL is recorded without its signature; the caller gets all of it."""

    async def scenario(kit: Kit) -> None:
        request = kit.library.Request("GET", f"https://me:pw@{kit.base[7:]}/a?x=1&sig=SECRET")

        def refuse(request: Any) -> None:
            kit.library.Response(403, request=request).raise_for_status()

        def chunks() -> Iterator[bytes]:
            yield b"a"
            refuse(request)

        def handler(request: Any) -> Any:
            if when == "body":
                return response_of(kit, chunks)
            if when == "own text":
                raise LookupError(f"no answer from {request.url}, or from https://b.test/?X-Amz-Signature=SECRET")
            try:
                refuse(request)
            except Exception as exc:
                if when == "cause":
                    raise ConnectionError("refused") from exc
                raise

        with pytest.raises(Exception, match=r"SECRET|refused"):
            await kit.read(await send_through(kit, kit.Transport(kit.transport_of(handler)), request))
        recorded = spans.client.to_json()
        assert "SECRET" not in recorded
        assert "me:pw" not in recorded
        assert "REDACTED" in recorded
        assert len(spans.client.events) == 1

    local.run(scenario)
