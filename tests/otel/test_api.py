"""The facts of OpenTelemetry's API that are not documented: each holds today, and each has a fallback that works."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, metrics
from opentelemetry import context as api_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import asgi_trace
from asgi_trace._otel import api
from asgi_trace._propagation import propagator as propagation

SPAN_CONTEXT = SpanContext(0xABC, 0xDEF, True, TraceFlags(1), TraceState([("a", "1")]))
SPAN = NonRecordingSpan(SPAN_CONTEXT)


def test_the_keys_are_the_apis() -> None:
    """A Context that is built with these keys is one that the API reads, and the other way round."""
    context = Context({api.SPAN_KEY: SPAN, api.BAGGAGE_KEY: {"a": "1"}})
    assert get_current_span(context) is SPAN
    assert baggage.get_all(context) == {"a": "1"}
    assert set_span_in_context(SPAN, Context())[api.SPAN_KEY] is SPAN
    assert baggage.set_baggage("a", "1", Context())[api.BAGGAGE_KEY] == {"a": "1"}


@pytest.mark.parametrize(
    ("entries", "suppressed"),
    [
        ({}, False),
        ({"suppress_instrumentation": True}, True),
        ({"suppress_instrumentation": False}, False),
        ({api.SUPPRESS_HTTP: True}, True),
        ({api.SUPPRESS_HTTP: None}, False),
        ({"something else": True}, False),
    ],
)
def test_a_context_may_be_suppressed(entries: dict[str, object], suppressed: bool) -> None:
    """Each of the keys silences when its value is true; a Context with none of them needs no look at values."""
    assert api.is_suppressed(Context(entries)) is suppressed
    assert not (suppressed and api.SUPPRESSIONS.isdisjoint(entries))


def test_the_suppressions_are_the_apis() -> None:
    """What OpenTelemetry's own helpers set is among the keys."""
    utils = pytest.importorskip("opentelemetry.instrumentation.utils")
    for silence in (utils.suppress_instrumentation, utils.suppress_http_instrumentation):
        with silence():
            assert api.is_suppressed(api_context.get_current())
    assert not api.is_suppressed(api_context.get_current())


def test_without_the_apis_suppression_keys_the_plain_texts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that has moved its private keys is no error: the texts that older instrumentations use are left."""
    monkeypatch.delattr(api_context, "_SUPPRESS_INSTRUMENTATION_KEY")
    monkeypatch.delattr(api_context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
    again = importlib.reload(api)
    try:
        assert again.SUPPRESS_HTTP == "suppress_http_instrumentation"
        assert {"suppress_instrumentation", "suppress_http_instrumentation"} == again.SUPPRESSIONS
    finally:
        monkeypatch.undo()
        importlib.reload(api)


def test_the_context_variable_is_the_apis() -> None:
    """The variable that is learned holds what the API calls the current context."""
    variable = api.context_variable()
    assert isinstance(variable, ContextVar)
    token = api_context.attach(Context({"a": 1}))
    try:
        assert variable.get() is api_context.get_current()
    finally:
        api_context.detach(token)


def test_no_context_variable_where_the_token_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context implementation whose `attach` returns something else is used through its own functions."""
    monkeypatch.setattr(api_context, "attach", lambda context: object())
    monkeypatch.setattr(api_context, "detach", lambda token: None)
    assert api.context_variable() is None


class Longer(tuple[Any, ...]):
    """A SpanContext with one part more."""

    __slots__ = ()
    is_valid = True

    def __new__(cls, *values: Any) -> Longer:
        return super().__new__(cls, (*values, True, "more"))


class Opaque:
    """A SpanContext that is not a tuple."""

    def __init__(self, trace_id: int, span_id: int, is_remote: bool, trace_flags: Any, trace_state: Any) -> None:
        self.trace_id, self.span_id, self.is_remote = trace_id, span_id, is_remote
        self.trace_flags, self.trace_state, self.is_valid = trace_flags, trace_state, True


@pytest.mark.parametrize("other", [Longer, Opaque])
def test_a_span_context_of_another_shape_is_noticed(other: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape that is read and made directly is compared with the constructor's at import."""
    assert api._span_context_is_tuple()
    monkeypatch.setattr(api, "SpanContext", other)
    assert not api._span_context_is_tuple()


def test_a_span_context_that_is_no_tuple_is_left_to_the_propagator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a SpanContext cannot be unpacked, the configured propagator itself reads and writes the headers."""

    class Headers(dict[str, str]):
        raw: tuple[()] = ()

    lines = [(b"traceparent", f"00-{0xABC:032x}-{0xDEF:016x}-01".encode()), (b"tracestate", b"a=1")]
    parts: Any = tuple(SPAN_CONTEXT)
    written = Headers()
    monkeypatch.setattr(propagation, "SPAN_CONTEXT_IS_TUPLE", False)
    w3c = propagation.Propagation(TraceContextTextMapPropagator())
    w3c.inject(written, Context({api.SPAN_KEY: NonRecordingSpan(Opaque(*parts[:5]))}))  # type: ignore[arg-type]
    assert written == {name.decode(): value.decode() for name, value in lines}
    assert get_current_span(w3c.extract(dict(lines), lines)).get_span_context() == SPAN_CONTEXT


def test_an_instrument_of_the_proxy_waits_for_its_provider() -> None:
    """The state of the API's proxy changes when a provider is set, without a further question."""
    program = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from asgi_trace._otel import api
waiting = metrics.get_meter("test").create_histogram("a")
state = api.instrument_state(waiting)
print(api.is_waiting(waiting), state[api.REAL])
metrics.set_meter_provider(MeterProvider())
print(api.is_waiting(waiting), type(state[api.REAL]).__name__.lstrip("_"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["True None", "False Histogram"]


class Slotted:
    """An instrument without the private attribute, and without a dictionary."""

    __slots__ = ()


def test_an_instrument_that_is_no_proxy_is_known_at_once() -> None:
    """One that measures is itself, one that does nothing is None, and so is none at all."""
    real = MeterProvider().get_meter("test").create_histogram("a")
    silent = metrics.NoOpMeterProvider().get_meter("test").create_histogram("a")
    slotted = Slotted()
    for instrument, known in ((real, real), (slotted, slotted), (silent, None), (None, None)):
        assert api.instrument_state(instrument)[api.REAL] is known
        assert not (instrument and api.is_waiting(instrument))


def test_the_parts_of_a_composite_are_known() -> None:
    """A composite tells its parts; one that does not is None, and then called as it is."""
    parts = TraceContextTextMapPropagator(), W3CBaggagePropagator()
    composite = CompositePropagator(list(parts))
    assert api.parts_of(composite) == parts
    del composite.__dict__["_propagators"]
    assert api.parts_of(composite) is None


PROGRAM = """
import os
before = dict(os.environ)
from asgi_trace._otel.api import get_global_textmap
assert dict(os.environ) == before
print(*(type(part).__name__ for part in get_global_textmap()._propagators))
"""
W3C = "TraceContextTextMapPropagator W3CBaggagePropagator"


@pytest.mark.parametrize(
    ("value", "parts", "warning"),
    [
        ("", W3C, ""),
        (",", W3C, ""),
        ("tracecontext", "TraceContextTextMapPropagator", ""),
        ("tracecontext,", "TraceContextTextMapPropagator", ""),
        (", b3 ,,tracecontext", "B3SingleFormat TraceContextTextMapPropagator", ""),
        ("none", "", ""),
        (",none", "", ""),
        ("tracecontext,b33", W3C, "OTEL_PROPAGATORS: 'b33' is misspelled or not installed;"),
        (",b33", W3C, "OTEL_PROPAGATORS: 'b33' is misspelled or not installed;"),
    ],
)
def test_the_variable_never_stops_a_service(value: str, parts: str, warning: str) -> None:
    """OTEL_PROPAGATORS with an empty or an unknown name is read all the same, and the environment is not written."""
    environment = {**os.environ, "OTEL_PROPAGATORS": value}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == parts
    assert warning in done.stderr
    assert bool(done.stderr) == bool(warning)


PACKAGE = Path(asgi_trace.__file__).parent
PERMITTED = {
    "opentelemetry._logs": "the only name of the API's module for logs",
    "opentelemetry.sdk._logs": "the only name of the SDK's module for logs",
    "opentelemetry.sdk._logs.export": "the only name of the SDK's exporters of logs",
    "opentelemetry.exporter.otlp.proto.common._log_encoder": "the only name of the official encoder of logs",
    "sys._getframe": "documented by Python",
    "os._exit": "documented by Python",
    "_SubParsersAction": "the only name that argparse has for the type of its subcommands",
    "_preferred_aggregation": "how the SDK's metric readers ask an exporter what it prefers",
    "_preferred_temporality": "how the SDK's metric readers ask an exporter what it prefers",
    "_is_coroutine": "how Python 3.10 and 3.11 mark a plain function that returns an awaitable",
}


def private(name: str) -> bool:
    """Is it a name with one underscore in front?"""
    return name.startswith("_") and not name.startswith("__")


def own_names(trees: dict[Path, ast.AST]) -> set[str]:
    """The names that the package itself defines: functions, classes, variables, attributes of `self` and slots."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "state"):
                    found.add(node.attr)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
                found.update(str(slot.value) for slot in ast.walk(node.value) if isinstance(slot, ast.Constant))
    return found


def foreign_private_names(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """The private names of other packages that a module reads, as attribute, import, or text for `getattr`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            yield node.attr if node.attr in PERMITTED else ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            if any(map(private, module.split("."))):
                yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if private(alias.name))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if any(map(private, alias.name.split("."))))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            name = node.args[1]
            text = str(name.value) if isinstance(name, ast.Constant) else ""
            if node.func.id in ("getattr", "hasattr", "setattr", "delattr") and private(text) and text not in own:
                yield text


def test_no_other_module_reads_a_private_name_of_another_package() -> None:
    """Private names of OpenTelemetry stand in `_otel/api.py`, and the SDK's in `_sdk/`; of others there are none."""
    trees: dict[Path, ast.AST] = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    own = own_names({path: tree for path, tree in trees.items() if path.parent.name != "_sdk"})
    own -= {"_real_instrument"}
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path, tree in trees.items()
        if path.parent.name != "_sdk" and path.relative_to(PACKAGE) != Path("_otel/api.py")
        for name in foreign_private_names(tree, own)
        if name not in PERMITTED
    }
    assert found == set()


def test_the_search_for_private_names_is_not_blind() -> None:
    """Each way to read a private name of another package is found."""
    program = """
import a._b
from c import _d
from e._f import g
h._i
getattr(j, "_k", None)
own._own
m.__n__
"""
    assert set(foreign_private_names(ast.parse(program), {"_own"})) == {"a._b", "c._d", "e._f", "h._i", "_k"}
