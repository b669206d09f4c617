"""Headers as attributes: which are recorded, under what names, and which are masked."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._options.capture_headers import HeaderCapture
from asgi_trace._options.redact import Redaction
from asgi_trace._types import Message
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, attributes_of, body, drive, http_scope, responding, start

Headers = list[tuple[bytes, bytes]]


def captured(spans: CapturedSpans, headers: Headers, answer: Message | None = None, **options: Any) -> dict[str, Any]:
    spans.clear()
    app = responding(answer or start(200, [(b"x-id", b"r1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]), body())
    drive(TraceMiddleware(app, **options), http_scope(headers=headers))
    return {key: value for key, value in attributes_of(spans.server).items() if ".header." in key}


LINES: Headers = [
    (b"x-id", b"1"),
    (b"x-id", b"2"),
    (b"x-idle", b"3"),
    (b"authorization", b"Bearer abc"),
    (b"x-latin", b"\xe9"),
]


def test_no_header_is_captured_by_default(spans: CapturedSpans) -> None:
    """Headers are recorded only when they are asked for by name."""
    assert captured(spans, LINES) == {}


def test_captured_headers_are_lists_under_their_own_names(spans: CapturedSpans) -> None:
    """One item per header line, dashes kept, names exact and in any case; a header that is not there makes nothing."""
    options: dict[str, Any] = {
        "capture_request_headers": ["X-Id", "x-latin", "x-none"],
        "capture_response_headers": "X-ID",
    }

    assert captured(spans, LINES, **options) == {
        "http.request.header.x-id": ("1", "2"),
        "http.request.header.x-latin": ("é",),
        "http.response.header.x-id": ("r1",),
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("x-.*", ["x-id", "x-request-id", "x-tenant"]),
        ("X-(ID|tenant)", ["x-id", "x-tenant"]),
        (["id", "tenant", "x"], []),
        (".*-id", ["x-id", "x-request-id"]),
        (["x-[a-z]+", "accept"], ["accept", "x-id", "x-tenant"]),
        (".*", ["accept", "host", "x-id", "x-request-id", "x-tenant"]),
    ],
)
def test_a_name_in_the_options_may_be_a_pattern(spans: CapturedSpans, names: Any, expected: list[str]) -> None:
    """A regular expression matches whole header names in any case, as in the environment."""
    lines = [(name, b"1") for name in (b"host", b"accept", b"x-id", b"x-request-id", b"x-tenant")]
    prefix = "http.request.header."
    assert sorted(captured(spans, lines, capture_request_headers=names)) == [prefix + name for name in expected]


@pytest.mark.parametrize("option", ["capture_request_headers", "capture_response_headers"])
def test_a_wrong_pattern_of_names_raises_at_construction(option: str) -> None:
    """The message names the option and says what to write."""
    wrong: Any = {option: "*"}
    with pytest.raises(ValueError, match=rf"{option}: '\*' is not a regular expression .*'x-\.\*'"):
        TraceMiddleware(OK, **wrong)
    wrong = {option: 7}
    with pytest.raises(TypeError, match=f"{option}: 7 is not a string; write header names like 'x-request-id'"):
        TraceMiddleware(OK, **wrong)


def test_credentials_are_masked_though_they_are_asked_for(spans: CapturedSpans) -> None:
    """authorization, cookies and the like are recorded as present, without their value."""
    headers = [(b"authorization", b"Bearer a"), (b"cookie", b"a"), (b"proxy-authorization", b"b"), (b"x-api-key", b"c")]
    names = [name.decode() for name, _ in headers]
    options: dict[str, Any] = {"capture_request_headers": names, "capture_response_headers": "set-cookie"}

    assert captured(spans, headers, **options) == {
        "http.request.header.authorization": ("REDACTED",),
        "http.request.header.cookie": ("REDACTED",),
        "http.request.header.proxy-authorization": ("REDACTED",),
        "http.request.header.x-api-key": ("REDACTED",),
        "http.response.header.set-cookie": ("REDACTED", "REDACTED"),
    }


def test_names_in_redact_mask_captured_headers(spans: CapturedSpans) -> None:
    """`redact="x-id"` masks that header too; a callable may show what the standard list would hide."""

    def rule(name: str, value: str) -> str:
        return value[:6] + "***"

    assert captured(spans, LINES, capture_request_headers="x-id", redact="X-Id") == {
        "http.request.header.x-id": ("REDACTED", "REDACTED")
    }
    assert captured(spans, LINES, capture_request_headers="authorization", redact=rule) == {
        "http.request.header.authorization": ("Bearer***",)
    }


def test_the_environment_asks_for_headers_by_pattern(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variables hold regular expressions for whole names, and what must be masked."""
    prefix = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
    monkeypatch.setenv(prefix + "SERVER_REQUEST", "X-I.*, (")
    monkeypatch.setenv(prefix + "SERVER_RESPONSE", "x-id,set-cookie")
    monkeypatch.setenv(prefix + "SANITIZE_FIELDS", ".*idle")

    assert captured(spans, LINES) == {
        "http.request.header.x-id": ("1", "2"),
        "http.request.header.x-idle": ("REDACTED",),
        "http.response.header.x-id": ("r1",),
        "http.response.header.set-cookie": ("REDACTED", "REDACTED"),
    }


def test_a_response_without_headers_has_none_to_capture(spans: CapturedSpans) -> None:
    """`headers` is optional in a response, and may be any iterable: the server gets it whole."""
    options = {"capture_response_headers": "x-id"}
    assert captured(spans, [], {"type": "http.response.start", "status": 200}, **options) == {}

    once: Message = {"type": "http.response.start", "status": 200, "headers": iter([(b"x-id", b"1")])}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(once)
        await send(body())

    served = drive(TraceMiddleware(app, capture_response_headers="x-id"))
    assert served.headers == [(b"x-id", b"1")]


def test_what_is_known_of_names_is_bounded() -> None:
    """A thousand invented names, and long ones, leave five hundred or so behind, and what is recorded is the same."""
    capture = HeaderCapture("h.", "capture_request_headers", "x-.*[02468]", "NO_VARIABLE", Redaction())
    for _ in range(2):
        for number in range(1000):
            name = f"X-{number}"
            expected = {f"h.x-{number}": ["1"]} if number % 2 == 0 else {}
            assert capture.attributes([(name.encode(), b"1")]) == expected
        assert capture.attributes([(b"x-" + b"a" * 5000 + b"0", b"1")]) == {"h.x-" + "a" * 5000 + "0": ["1"]}
    assert len(capture._kept) <= 512
    assert max(map(len, capture._kept)) <= 64


def test_names_that_are_bytearrays_are_recorded(spans: CapturedSpans) -> None:
    """Some applications build their headers of those."""
    lines: Any = [(bytearray(b"X-Id"), bytearray(b"7"))]
    app = responding(start(200, lines), body())
    drive(TraceMiddleware(app, capture_response_headers="x-id"))
    assert attributes_of(spans.server)["http.response.header.x-id"] == ("7",)
