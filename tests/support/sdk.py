"""Two stages for the same play: the SDK's own provider, and ours. What is seen and said on them can be compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum
from typing import Any

from hypothesis import strategies as st
from opentelemetry import trace as api
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from asgi_trace import _sdk as sdk

CALLER = SpanContext(7 << 64 | 5, 9, True, TraceFlags(3), TraceState([("a", "1")]))


class Counting(IdGenerator):
    """1, 2, 3..., for whatever is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trace_id = 0
        """The number of every trace, when it is not 0."""

    def _next(self, what: str) -> int:
        self.asked.append(what)
        return len(self.asked)

    def generate_trace_id(self) -> int:
        return self.trace_id or self._next("trace")

    def generate_span_id(self) -> int:
        return self._next("span")

    def is_trace_id_random(self) -> bool:
        return bool(self._next("random"))


class Keeping(official.SpanProcessor):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any, Any]] = []

    def on_start(self, *args: Any, **kwargs: Any) -> None:
        self.told.append(("on_start", args, kwargs))

    def _on_ending(self, *args: Any, **kwargs: Any) -> None:
        self.told.append(("_on_ending", args, kwargs))

    def on_end(self, *args: Any, **kwargs: Any) -> None:
        self.told.append(("on_end", args, kwargs))

    @property
    def ended(self) -> list[official.ReadableSpan]:
        return [args[0] for name, args, _ in self.told if name == "on_end"]


class TakingLive(Keeping):
    """Has nothing to do at a span's start, and takes our spans as they are at their end, as a queue does."""

    on_start = official.SpanProcessor.on_start
    _on_ending = official.SpanProcessor._on_ending

    def __init__(self) -> None:
        super().__init__()
        self.live: list[Any] = []
        self.take_live = self.live.append

    @property
    def ended(self) -> list[official.ReadableSpan]:
        return [*super().ended, *self.live]


class Asking(Sampler):
    """Samples everything, and keeps the attributes that it is given, as they are at that moment."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(dict(args[4]))
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "asking"


class OtherKind(api.TracerProvider):
    """A provider of the user's own that has the API's methods only. Keeps the attributes that spans start with."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []

    def get_tracer(self, *args: Any, **kwargs: Any) -> api.Tracer:
        return _OtherTracer(self.started)


class _OtherTracer(api.Tracer):
    def __init__(self, started: list[dict[str, Any]]) -> None:
        self._started = started

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        self._started.append(dict(args[3]))
        return api.NonRecordingSpan(api.get_current_span(args[1]).get_span_context())

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class Stage:
    """One provider with a tracer, and what happens on it. `live`: nothing stands between a span's end and a queue."""

    def __init__(
        self,
        provider: type[official.TracerProvider],
        sampler: Sampler | None = None,
        limits: official.SpanLimits | None = None,
        live: bool = False,
    ) -> None:
        self.ids = Counting()
        self.processor = TakingLive() if live else Keeping()
        self.provider = provider(
            sampler=sampler or ParentBased(ALWAYS_ON),
            resource=Resource({"service.name": "stage"}),
            shutdown_on_exit=False,
            id_generator=RandomIdGenerator() if live else self.ids,
            span_limits=limits,
        )
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("stage", "1", "https://stage.test", {"a": 1})


def both(sampler: Sampler | None = None, limits: official.SpanLimits | None = None) -> tuple[Stage, Stage]:
    """Theirs and ours."""
    return Stage(official.TracerProvider, sampler, limits), Stage(sdk.TracerProvider, sampler, limits)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returns or raises, as something that can be compared."""
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        return type(exc), str(exc)


def facts(span: Any) -> dict[str, Any]:
    """Everything public about a span that is readable."""
    return {
        "name": span.name,
        "kind": span.kind,
        "context": span.get_span_context(),
        "flags": span.context.trace_flags,
        "state": list(span.context.trace_state.items()),
        "parent": span.parent,
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code, span.status.description),
        "attributes": repr(list(span.attributes.items())),
        "events": [(event.name, event.timestamp, repr(event.attributes)) for event in span.events],
        "links": [(link.context, repr(link.attributes)) for link in span.links],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "dropped inside": [each.dropped_attributes for each in (*span.events, *span.links)],
        "resource": span.resource,
        "scope": span.instrumentation_scope,
        "json": outcome(span.to_json),
    }


@contextmanager
def heard() -> Iterator[list[tuple[str, str, str]]]:
    """What OpenTelemetry logs."""
    messages: list[tuple[str, str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append((record.name, record.levelname, record.getMessage()))

    handler, logger = Handler(), logging.getLogger("opentelemetry")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


# --- values, also those that nobody should use ---


class Text(str):
    __slots__ = ()


class Sly(str):
    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"something else"


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Loud:
    def __str__(self) -> str:
        return "loud"


class Mute:
    pass


SCALARS = st.one_of(
    st.text(max_size=6),
    st.integers(-5, 5),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**100]),
    st.booleans(),
    st.floats(),
    st.binary(max_size=4),
    st.none(),
    st.sampled_from([Text("subclass"), Colour.RED, Level.HIGH, Loud(), Mute(), "\ud800", "é" * 70, "x" * 1100]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=4,
)
KEYS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["a", "b", "c", "d", "e"]), st.text(max_size=3), st.sampled_from([Text("k"), Colour.RED, 1, None])
)
MAPPINGS: st.SearchStrategy[dict[Any, Any]] = st.dictionaries(KEYS, VALUES, max_size=5)
