"""`JSONFormatter`: one JSON object a line, whatever the record holds."""

from __future__ import annotations

import json
import logging
import logging.config
import logging.handlers
import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.trace import (
    use_span,
)

from asgi_trace.logging import JSONFormatter, TraceContextFilter
from asgi_trace.testing import CapturedSpans

from ..support.log_capture import (
    NO_SPAN,
    ids_of,
    record,
)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


def as_json(written: logging.LogRecord) -> dict[str, Any]:
    TraceContextFilter("shop").filter(written)
    line = JSONFormatter().format(written)
    assert "\n" not in line
    parsed: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return parsed


def test_a_json_line_holds_the_record_and_its_extras() -> None:
    """Time in UTC, level, logger, message, service and what was passed as `extra`; no ids where there are none."""
    line = as_json(record("paid %s", args=(7,), created=0.25, order={"id": 7}, paid=True))
    assert line == {
        "timestamp": "1970-01-01T00:00:00.250000+00:00",
        "level": "INFO",
        "logger": "shop",
        "message": "paid 7",
        "service.name": "shop",
        "order": {"id": 7},
        "paid": True,
    }


def test_a_json_line_holds_the_exception_and_the_stack() -> None:
    """A traceback is one string on the same line, and the ids are those of the exception's request."""
    try:
        raise ValueError("no such order")
    except ValueError:
        line = as_json(record(exc_info=sys.exc_info(), stack_info="Stack (most recent call last):"))
    assert line["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert line["exception"].splitlines()[-1] == "ValueError: no such order"
    assert line["stack"] == "Stack (most recent call last):"


def test_a_json_line_is_written_whatever_the_record_holds() -> None:
    """Line breaks, lone surrogates and objects that JSON does not know become text."""
    line = as_json(record("a\nb \udcff", when=Frozen(7), numbers={1: {2}}))
    assert line["message"] == "a\nb \udcff"
    assert line["when"] == "7"
    assert line["numbers"] == {"1": "{2}"}


def circle() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["again"] = found
    return found


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


class Mute:
    def __str__(self) -> str:
        raise ValueError("not ready")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ([1.5, float("inf")], "[1.5, inf]"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (circle(), "{'again': {...}}"),
        (Mute(), "<.*Mute object at .*>"),
        ([Mute()], "<.*Mute object at .*>"),
        (deep(), "<list object at .*>"),
    ],
)
def test_a_json_line_holds_as_text_what_json_has_no_place_for(value: object, written: str) -> None:
    """The line is JSON by the letter, and the other extras of the record stay what they are."""
    line = as_json(record(value=value, order={"id": 7}))
    text = line["value"][0] if isinstance(line["value"], list) else line["value"]
    assert text == written or re.fullmatch(written, text)
    assert (line["message"], line["service.name"], line["order"]) == ("paid", "shop", {"id": 7})


def test_a_json_line_names_what_has_no_name() -> None:
    """An extra whose key is not a string is there under the string of its key."""
    written = record()
    written.__dict__.update({(1, 2): 3})  # type: ignore[dict-item]
    assert as_json(written)["(1, 2)"] == 3


def test_the_fields_of_a_json_line_are_not_overwritten() -> None:
    """An extra that has the name of a field moves aside, as far as it must."""
    clash = {name: f"my {name}" for name in ("timestamp", "level", "logger", "exception", "stack", "service_name")}
    line = as_json(record(created=0.25, exc_info=(None, None, None), **clash, **{"extra.level": "another"}))
    assert line == {
        "timestamp": "1970-01-01T00:00:00.250000+00:00",
        "level": "INFO",
        "logger": "shop",
        "message": "paid",
        "service.name": "shop",
        "service_name": "my service_name",
        "exception": "NoneType: None",
        "stack": "my stack",
        "extra.timestamp": "my timestamp",
        "extra.level": "my level",
        "extra.extra.level": "another",
        "extra.logger": "my logger",
        "extra.exception": "my exception",
    }


def test_a_json_line_keeps_the_ids_that_its_author_gave() -> None:
    """Only those that say that there is no span are left out."""
    assert as_json(record(trace_id="mine"))["trace_id"] == "mine"
    assert as_json(record(span_id="mine"))["span_id"] == "mine"
    assert as_json(record(trace_id="mine")).keys() & NO_SPAN.keys() == {"trace_id"}
    assert as_json(record(span_id="mine")).keys() & NO_SPAN.keys() == {"span_id"}


def test_a_json_line_has_the_ids_of_the_span(spans: CapturedSpans) -> None:
    """The fields have the names of OpenTelemetry's convention for logs."""
    with use_span(spans.tracer_provider.get_tracer("shop").start_span("charge"), end_on_exit=True):
        line = as_json(record())
    assert (line["trace_id"], line["span_id"]) == ids_of(spans[0])
    assert line["trace_flags"] == f"{spans[0].context.trace_flags:02x}"
