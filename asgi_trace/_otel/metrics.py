"""The HTTP metrics of the semantic conventions, server and client: instruments, and one call for each moment.

Values are the span's own: seconds between its start and its end, its error type. Labels are bounded whatever a caller
sends: never a path, an address or an original method. Nothing is computed until a MeterProvider is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from opentelemetry.metrics import get_meter, get_meter_provider

from .._guard import logger
from .._semconv.names import (
    CLIENT_ACTIVE_REQUESTS,
    CLIENT_DURATION,
    CLIENT_REQUEST_SIZE,
    CLIENT_RESPONSE_SIZE,
    SCHEMA_URL,
    SERVER_ACTIVE_REQUESTS,
    SERVER_DURATION,
    SERVER_REQUEST_SIZE,
    SERVER_RESPONSE_SIZE,
)
from .._types import Attributes
from .._version import VERSION
from .api import REAL, instrument_state, is_waiting
from .tracers import INSTRUMENTATION_SCOPE

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider, UpDownCounter

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The bucket boundaries that the conventions ask for."""

_SERVER = (SERVER_DURATION, SERVER_ACTIVE_REQUESTS, SERVER_REQUEST_SIZE, SERVER_RESPONSE_SIZE)
_CLIENT = (CLIENT_DURATION, CLIENT_ACTIVE_REQUESTS, CLIENT_REQUEST_SIZE, CLIENT_RESPONSE_SIZE)

_DESCRIPTIONS = {
    SERVER_DURATION: "Duration of HTTP server requests.",
    SERVER_ACTIVE_REQUESTS: "Number of active HTTP server requests.",
    SERVER_REQUEST_SIZE: "Size of HTTP server request bodies.",
    SERVER_RESPONSE_SIZE: "Size of HTTP server response bodies.",
    CLIENT_DURATION: "Duration of HTTP client requests.",
    CLIENT_ACTIVE_REQUESTS: "Number of active HTTP requests.",
    CLIENT_REQUEST_SIZE: "Size of HTTP client request bodies.",
    CLIENT_RESPONSE_SIZE: "Size of HTTP client response bodies.",
}
"""The conventions' own words."""

Labels: TypeAlias = tuple[Any, ...]
"""What the labels of a measurement are made of. Most measurements have the same ones as earlier ones."""
LabelsOf: TypeAlias = Callable[[Labels], Attributes]
"""Makes the labels of that; it may return the same dict again."""


class Measured(Protocol):
    """What a measurement belongs to: a request that was served or sent."""

    @property
    def context(self) -> Context:
        """The context that holds its span: what an exemplar points at. It may be made at each look."""
        ...

    @property
    def span(self) -> Any:
        """The span in `context`."""
        ...


class Metrics:
    """The instruments of one side, `server` or `client`, that `metrics=` names; `labels_of` makes their labels.

    Raises ValueError for a name that is not an instrument of that side, TypeError for anything but names.
    """

    __slots__ = (
        "_active",
        "_duration",
        "_labels_of",
        "_record_duration",
        "_request_size",
        "_response_size",
        "_settled",
        "counts_active",
        "counts_bodies",
        "state",
    )

    def __init__(
        self, side: str, names: str | Iterable[str], meter_provider: MeterProvider | None, labels_of: LabelsOf
    ) -> None:
        known = _SERVER if side == "server" else _CLIENT
        duration, active, request_size, response_size = known
        provider = get_meter_provider() if meter_provider is None else meter_provider
        instruments = _instruments(_wanted(names, known), provider)
        self._duration: Histogram | None = instruments.get(duration)
        self._active: UpDownCounter | None = instruments.get(active)
        self._request_size: Histogram | None = instruments.get(request_size)
        self._response_size: Histogram | None = instruments.get(response_size)
        self.state = instrument_state(next(iter(instruments.values()), None))
        """While `state[REAL]` is None, nothing is measured. The server asks that first: it costs less than `live()`."""
        self._settled = False
        self._labels_of = labels_of
        self._record_duration: Any = None
        self.counts_active = self._active is not None
        self.counts_bodies = self._request_size is not None or self._response_size is not None

    def live(self) -> bool:
        """Is there a MeterProvider that takes measurements? One that is set later counts from then on."""
        real = self.state[REAL]
        if real is None:
            return False
        if not self._settled:
            self._settled = True
            self.state = instrument_state(real)
            return self.state[REAL] is not None  # None: the provider that was set measures nothing
        return True

    def started(self, attributes: Attributes, context: Context) -> None:
        """A request began. `finished` must get the same `attributes`."""
        if self._active is not None:
            self._active.add(1, attributes, context)

    def finished(
        self,
        active: Attributes,
        labels: Labels,
        measured: Measured,
        nanoseconds: int,
        request_size: int,
        response_size: int,
    ) -> None:
        """A request ended. `active` is what `started` got; sizes are bytes on the wire, without headers.

        Where the clock was set back in between, the duration is 0.
        """
        if self._duration is not None:
            record = self._record_duration or self._duration_record()
            record((nanoseconds if nanoseconds > 0 else 0) / 1e9, labels, measured)
        if not (self.counts_active or self.counts_bodies):
            return
        context = measured.context
        if self._active is not None:
            self._active.add(-1, active, context)
        if self._request_size is not None:
            self._request_size.record(request_size, self._labels_of(labels), context)
        if self._response_size is not None:
            self._response_size.record(response_size, self._labels_of(labels), context)

    def _duration_record(self) -> Any:
        """The `record` of the duration's real instrument, faster where that is the SDK's; remembered from then on."""
        real: Any = instrument_state(self._duration)[REAL]
        record = None
        if real is not None and type(real).__module__.startswith("opentelemetry.sdk."):
            try:
                record = import_module("asgi_trace._sdk.histogram").fast_record(real, self._labels_of)
            except Exception as exc:
                _stands_aside(repr(exc))
        record = record or self._plain_record(real or self._duration)
        if real is not None:
            self._record_duration = record
        return record

    def _plain_record(self, histogram: Any) -> Any:
        labels_of = self._labels_of
        return lambda value, labels, measured: histogram.record(value, labels_of(labels), measured.context)


@cache
def _stands_aside(reason: str) -> None:
    """Say once for each reason, not for each instrument, that the SDK is not as our way of measuring needs it."""
    logger.info("the SDK's own way of measuring is used: %s", reason)


_waiting: dict[frozenset[str], tuple[MeterProvider, dict[str, Any]]] = {}
"""Instruments of the API's proxy provider, shared by all that wait for a provider: it keeps each one for ever."""


def _instruments(wanted: frozenset[str], provider: MeterProvider) -> dict[str, Any]:
    """The instruments `wanted`, by their names."""
    if not wanted:
        return {}
    waiting_for, instruments = _waiting.get(wanted, (None, {}))
    if waiting_for is provider and any(map(is_waiting, instruments.values())):
        return instruments
    instruments = _create(wanted, provider)
    if any(map(is_waiting, instruments.values())):
        _waiting[wanted] = provider, instruments
    return instruments


def _create(wanted: frozenset[str], provider: MeterProvider) -> dict[str, Any]:
    meter = get_meter(INSTRUMENTATION_SCOPE, VERSION, provider, SCHEMA_URL)
    instruments: dict[str, Any] = {}
    for name in (*_SERVER, *_CLIENT):
        if name not in wanted:
            continue
        text = _DESCRIPTIONS[name]
        if name in (SERVER_DURATION, CLIENT_DURATION):
            instruments[name] = meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=_SECONDS)
        elif name in (SERVER_ACTIVE_REQUESTS, CLIENT_ACTIVE_REQUESTS):
            instruments[name] = meter.create_up_down_counter(name, "{request}", text)
        else:
            instruments[name] = meter.create_histogram(name, "By", text)
    return instruments


def _wanted(names: str | Iterable[str], known: tuple[str, ...]) -> frozenset[str]:
    """The option `metrics`, checked."""
    advice = f"write some of {', '.join(known)}, or () for none"
    if not isinstance(names, Iterable):
        raise TypeError(f"metrics: {names!r} is not a sequence of names; {advice}")
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if not isinstance(name, str):
            raise TypeError(f"metrics: {name!r} is not a string; {advice}")
        if name not in known:
            raise ValueError(f"metrics: no instrument is called {name!r}; {advice}")
    return frozenset(wanted)
