"""A record of the standard library as OpenTelemetry's log data model says it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags

from asgi_trace._logs.record import severity, translate

SPAN = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, False, TraceFlags(1))


class Unspeakable:
    """Neither `str()` nor `repr()` works."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unreadable(Mapping[str, object]):
    """A mapping whose items cannot be read."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Any:
        raise RuntimeError("closed")

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "Unreadable()"


def a_record(msg: object = "sold %d", args: Any = (3,), **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("shop.orders", logging.INFO, "/srv/shop.py", 12, msg, args, None, "sell")
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (0, 0),
        (1, 1),
        (5, 2),
        (9, 4),
        (10, 5),
        (11, 6),
        (15, 8),
        (20, 9),
        (25, 12),
        (30, 13),
        (39, 16),
        (40, 17),
        (50, 21),
        (55, 24),
        (60, 24),
        (1000, 24),
        (-5, 0),
    ],
)
def test_severity_follows_the_data_model(level: int, number: int) -> None:
    """Each of Python's five levels is the first number of its range, and what lies between stays between."""
    assert severity(level) is SeverityNumber(number)


def test_a_record_says_when_where_what_and_in_which_span() -> None:
    """Time in nanoseconds, the formatted message, the level's name, the call's place, and the ids."""
    record = a_record(created=1_700_000_000.25)
    made = translate(record, SPAN)

    assert made.timestamp == 1_700_000_000_250_000_000
    assert made.observed_timestamp is not None
    assert made.body == "sold 3"
    assert (made.severity_text, made.severity_number) == ("INFO", SeverityNumber.INFO)
    assert (made.trace_id, made.span_id, made.trace_flags) == (SPAN.trace_id, SPAN.span_id, TraceFlags(1))
    assert made.attributes == {
        "code.file.path": "/srv/shop.py",
        "code.line.number": 12,
        "code.function.name": "sell",
    }


def test_a_record_without_a_span_has_no_ids() -> None:
    """Zero means none in the data model."""
    made = translate(a_record(), INVALID_SPAN_CONTEXT)
    assert (made.trace_id, made.span_id) == (0, 0)


@pytest.mark.parametrize(
    ("msg", "args", "body"),
    [
        ("sold %d", ("three",), "sold %d ('three',)"),
        ("sold %s %s", (1,), "sold %s %s (1,)"),
        ("100 %", (), "100 %"),
        ({"event": "sold"}, (), "{'event': 'sold'}"),
        ("%(a)s", ({"a": 1},), "1"),
        ("caf\udce9", (), "caf?"),
        ("%s", (Unspeakable(),), None),
    ],
)
def test_the_body_is_the_message(msg: object, args: Any, body: str | None) -> None:
    """Arguments that do not fit, and texts that are no UTF-8, never lose the record."""
    made = translate(a_record(msg, args), SPAN)
    assert isinstance(made.body, str)
    assert body is None or made.body == body


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("text", "text"),
        ("caf\udce9", "caf?"),
        (True, True),
        (7, 7),
        (2**63, str(2**63)),
        (2.5, 2.5),
        (b"\x00\xff", b"\x00\xff"),
        ([1, "a", None], [1, "a", None]),
        ((1, 2), [1, 2]),
        ({"a": {"b": (1,)}}, {"a": {"b": [1]}}),
        ({1: "a"}, {"1": "a"}),
        (SeverityNumber.INFO, "SeverityNumber.INFO"),
        (Unreadable(), "Unreadable()"),
    ],
    ids=repr,
)
def test_what_was_passed_as_extra_is_an_attribute(value: object, written: object) -> None:
    """Numbers, text, bytes, lists and mappings stay what they are, as far as OTLP holds them; the rest is text."""
    attributes = translate(a_record(field=value), SPAN).attributes
    assert attributes is not None
    assert attributes["field"] == written


def test_a_value_without_a_text_is_named_by_its_class() -> None:
    """An object whose `str()` fails is still an attribute."""
    attributes = translate(a_record(field=Unspeakable()), SPAN).attributes
    assert attributes is not None
    assert "Unspeakable object at" in str(attributes["field"])


def test_deep_and_circular_values_end() -> None:
    """A list that contains itself becomes text at some depth."""
    circular: list[object] = []
    circular.append(circular)
    attributes = translate(a_record(field=circular), SPAN).attributes
    assert attributes is not None
    assert "[...]" in str(attributes["field"])


def test_none_and_the_fields_of_formatters_are_no_attributes() -> None:
    """What a formatter, uvicorn, Python itself or our own filter puts on a record is not repeated as an attribute."""
    record = a_record(
        asctime="now", message="sold", color_message="x", taskName="t", empty=None, trace_id="0", span_id="0"
    )
    record.__dict__.update({"trace_flags": "00", "service.name": "shop", "service_name": "shop"})
    attributes = translate(record, SPAN).attributes
    assert attributes is not None
    assert set(attributes) == {"code.file.path", "code.line.number", "code.function.name"}


def test_an_exception_is_three_attributes() -> None:
    """Type with its module, message and stack trace."""
    try:
        raise LookupError("no stock")
    except LookupError:
        attributes = translate(a_record(exc_info=sys.exc_info()), SPAN).attributes
    assert attributes is not None
    assert attributes["exception.type"] == "LookupError"
    assert attributes["exception.message"] == "no stock"
    assert str(attributes["exception.stacktrace"]).startswith("Traceback (most recent call last)")
    assert 'raise LookupError("no stock")' in str(attributes["exception.stacktrace"])


def test_an_exception_is_cut_and_keeps_no_secret() -> None:
    """Its texts are those that a span would show: bounded, and without the credentials of a URL."""
    try:
        raise LookupError("https://me:pw@shop.test/?token=abc " + "x" * 50_000)
    except LookupError:
        attributes = translate(a_record(exc_info=sys.exc_info()), SPAN).attributes
    assert attributes is not None
    message, trace = str(attributes["exception.message"]), str(attributes["exception.stacktrace"])
    assert message.startswith("https://REDACTED:REDACTED@shop.test/?token=REDACTED ")
    assert (len(message), len(trace)) <= (4096, 32_768)
    assert "abc" not in trace
    assert "me:pw" not in trace


@pytest.mark.parametrize("exc_info", [None, (None, None, None), False])
def test_no_exception_is_no_attribute(exc_info: object) -> None:
    """`exc_info=True` outside of an `except` block leaves nothing to say."""
    attributes = translate(a_record(exc_info=exc_info), SPAN).attributes
    assert attributes is not None
    assert not any(name.startswith("exception.") for name in attributes)
