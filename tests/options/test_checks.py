"""One string that is meant as a list, as other libraries take `"health,metrics"`: as one pattern it matches nothing."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._options.checks import texts
from asgi_trace.httpx import TraceTransport
from tests.support.asgi import OK

MIDDLEWARE = ("exclude", "trust", "trusted_proxies", "capture_request_headers", "capture_response_headers", "redact")
TRANSPORT = ("exclude", "propagate_to", "capture_request_headers", "capture_response_headers", "redact")


@pytest.mark.parametrize("value", ["a.b, c.d", "10.0.0.0/8,::1", "x-(a|b),x-c", r"a\.b,c", ","])
@pytest.mark.parametrize(
    ("build", "option"),
    [*((TraceMiddleware, option) for option in MIDDLEWARE), *((TraceTransport, option) for option in TRANSPORT)],
)
def test_one_string_is_not_a_list(build: Any, option: str, value: str) -> None:
    """One string with commas between its parts raises, and the message has the list to write."""
    arguments = (OK,) if build is TraceMiddleware else ()
    parts = [part.strip() for part in value.split(",")]
    with pytest.raises(ValueError, match="is one string; write a list") as raised:
        build(*arguments, **{option: value})
    assert str(raised.value).startswith(f"{option}: {value!r}")
    assert str(parts) in str(raised.value)


@pytest.mark.parametrize("value", ["^/a{1,3}$", "[a,b]", "(a,b|c)", r"a\,b", "plain"])
def test_a_comma_inside_of_a_pattern_is_one_pattern(value: str) -> None:
    """A comma that belongs to a regular expression separates nothing."""
    assert texts("exclude", value, "") == (value,)


def test_a_comma_in_a_list_is_meant() -> None:
    """In a list each item is taken as it is."""
    assert texts("exclude", ["a,b", "c"], "") == ("a,b", "c")
    assert TraceMiddleware(OK, exclude=["a,b"], redact=["a,b"])
