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

GROUP: Any = getattr(builtins, "ExceptionGroup", None) or pytest.importorskip("exceptiongroup").ExceptionGroup


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
    quoting = httpx.LocalProtocolError("illegal header value 'Bearer SECRET'")
    behind = RuntimeError("cannot send")
    behind.__cause__ = quoting
    for error in (GROUP("g", [quoting]), GROUP("g", [GROUP("h", [ValueError("x"), quoting])]), behind):
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


def buried(quoting: BaseException, depth: int, kind: str) -> BaseException:
    """An exception with `quoting` that far behind it: as a cause, as a member, or by turns."""
    found = quoting
    for number in range(depth):
        if kind == "members" or (kind == "by turns" and number % 2):
            found = GROUP(f"group {number}", [found])
        elif kind == "many members":
            found = GROUP("many", [*(ValueError(str(n)) for n in range(depth)), found]) if number == 0 else found
        else:
            outer = RuntimeError(f"step {number}")
            if kind == "contexts":
                outer.__context__ = found
            else:
                outer.__cause__ = found
            found = outer
    return found


@pytest.mark.parametrize("kind", ["causes", "contexts", "members", "by turns", "many members"])
@pytest.mark.parametrize("depth", [1, 2, 7, 8, 9, 10, 12, 31, 32, 33, 50])
def test_a_quoted_secret_is_masked_or_left_out_however_far_behind_it_is(
    spans: CapturedSpans, kind: str, depth: int
) -> None:
    """Eight causes or members deep it is masked, further away what quotes it is not recorded at all."""
    error = buried(httpx.LocalProtocolError("illegal header value 'Bearer SECRET'"), depth, kind)

    def handler(request: Any) -> Any:
        raise error

    with pytest.raises(type(error)) as caught:
        send(inner=httpx.MockTransport(handler), request={"headers": {"authorization": "Bearer SECRET"}})
    assert caught.value is error
    recorded = spans.client.to_json()
    assert "SECRET" not in recorded
    if depth <= 8 and kind != "many members":  # of which a stack trace shows the first
        assert "REDACTED" in recorded
        assert "left out" not in recorded
    elif kind == "members":
        assert "left out" in recorded
    assert str(error).split(" (")[0] in recorded


def test_without_a_secret_an_exception_is_recorded_with_all_that_is_behind_it(spans: CapturedSpans) -> None:
    """However much that is: nothing is left out where nothing could be quoted."""
    error = buried(httpx.LocalProtocolError("illegal header value 'plain'"), 40, "causes")

    def handler(request: Any) -> Any:
        raise error

    with pytest.raises(RuntimeError):
        send(inner=httpx.MockTransport(handler), request={"headers": {"x-plain": "plain"}})
    assert "illegal header value 'plain'" in spans.client.to_json()


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
