"""Exceptions that quote a credential: it stands in no part of a span."""

from __future__ import annotations

import pytest

from asgi_trace.testing import CapturedSpans

from ..support.http_clients import Kit
from ..support.transports import (
    exceptions_of,
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
