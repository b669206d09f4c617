"""The HTTP metrics of the semantic conventions, server and client: instruments, and one call for each moment.

Values are the span's own: seconds between its start and its end, its error type. Labels are bounded whatever a caller
sends: never a path, an address or an original method. Nothing is computed until a MeterProvider is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import NoOpHistogram, NoOpUpDownCounter, get_meter, get_meter_provider

from .._semconv.names import SCHEMA_URL
from .._types import Attributes
from .._version import VERSION
from .tracers import INSTRUMENTATION_SCOPE

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider, UpDownCounter

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_NOTHING = (NoOpHistogram, NoOpUpDownCounter)


class _Known:
    """Stands in the proxy's place when it is known whether an instrument measures."""

    __slots__ = ("_real_instrument",)

    def __init__(self, instrument: object) -> None:
        self._real_instrument = None if isinstance(instrument, _NOTHING) else instrument


class Metrics:
    """The instruments of one side, `server` or `client`, that `metrics=` names.

    Raises ValueError for a name that is no instrument of that side, TypeError for what is no name.
    """

    __slots__ = ("_active", "_duration", "_request_size", "_response_size", "counts_bodies", "first")

    def __init__(self, side: str, names: str | Iterable[str], meter_provider: MeterProvider | None) -> None:
        prefix = f"http.{side}"
        duration, active = f"{prefix}.request.duration", f"{prefix}.active_requests"
        request_size, response_size = f"{prefix}.request.body.size", f"{prefix}.response.body.size"
        wanted = _wanted(names, (duration, active, request_size, response_size))
        instruments = _instruments(side, wanted, get_meter_provider() if meter_provider is None else meter_provider)
        self._duration: Histogram | None = instruments.get(duration)
        self._active: UpDownCounter | None = instruments.get(active)
        self._request_size: Histogram | None = instruments.get(request_size)
        self._response_size: Histogram | None = instruments.get(response_size)
        first: Any = next(iter(instruments.values()), None)
        self.first: Any = first if hasattr(first, "_real_instrument") else _Known(first)
        """While its `_real_instrument` is None there is nothing to measure with, and `live()` need not be asked.

        It is the API's proxy, which holds the real instrument once a provider is set. There is no public question for
        it, and asking for the global provider costs a look at the environment on each request.
        """
        self.counts_bodies = self._request_size is not None or self._response_size is not None

    def live(self) -> bool:
        """Is there a MeterProvider that would take a measurement? One that is set later counts from then on."""
        if self.first._real_instrument is not None and self.first.__class__ is not _Known:
            self.first = _Known(self.first._real_instrument)
        return self.first._real_instrument is not None

    def started(self, attributes: Attributes, context: Context) -> None:
        """A request began. `finished` must get the same `attributes`."""
        if self._active is not None:
            self._active.add(1, attributes, context)

    def finished(
        self,
        active: Attributes,
        attributes: Attributes,
        context: Context,
        nanoseconds: int,
        request_size: int,
        response_size: int,
    ) -> None:
        """A request ended. `active` is what `started` got; sizes are bytes on the wire, without headers.

        `context` holds the request's span: what an exemplar points at.
        """
        if self._active is not None:
            self._active.add(-1, active, context)
        if self._duration is not None:
            self._duration.record(max(nanoseconds, 0) / 1e9, attributes, context)
        if self._request_size is not None:
            self._request_size.record(request_size, attributes, context)
        if self._response_size is not None:
            self._response_size.record(response_size, attributes, context)


_waiting: dict[tuple[str, frozenset[str]], tuple[MeterProvider, dict[str, Any]]] = {}
"""Instruments of the API's proxy, which keeps for ever whatever it makes: all who wait for a provider share them."""


def _instruments(side: str, wanted: frozenset[str], provider: MeterProvider) -> dict[str, Any]:
    """The instruments `wanted`, by their names."""
    if not wanted:
        return {}
    waiting_for, instruments = _waiting.get((side, wanted), (None, {}))
    if waiting_for is provider and _waits(instruments):
        return instruments
    instruments = _create(side, wanted, provider)
    if _waits(instruments):
        _waiting[side, wanted] = provider, instruments
    return instruments


def _waits(instruments: dict[str, Any]) -> bool:
    """Are these the proxy's, as long as there is no provider?"""
    return any(getattr(instrument, "_real_instrument", instrument) is None for instrument in instruments.values())


def _create(side: str, wanted: frozenset[str], provider: MeterProvider) -> dict[str, Any]:
    prefix = f"http.{side}"
    duration, active = f"{prefix}.request.duration", f"{prefix}.active_requests"
    meter = get_meter(INSTRUMENTATION_SCOPE, VERSION, provider, SCHEMA_URL)
    instruments: dict[str, Any] = {}
    if duration in wanted:
        instruments[duration] = meter.create_histogram(
            duration, "s", f"Duration of HTTP {side} requests.", explicit_bucket_boundaries_advisory=_SECONDS
        )
    if active in wanted:
        requests = "HTTP server requests" if side == "server" else "HTTP requests"  # the convention's words
        instruments[active] = meter.create_up_down_counter(active, "{request}", f"Number of active {requests}.")
    for half in ("request", "response"):
        if (size := f"{prefix}.{half}.body.size") in wanted:
            instruments[size] = meter.create_histogram(size, "By", f"Size of HTTP {side} {half} bodies.")
    return instruments


def _wanted(names: str | Iterable[str], known: tuple[str, ...]) -> frozenset[str]:
    """The option `metrics`, checked."""
    advice = f"write some of {', '.join(known)}, or () for none"
    if not isinstance(names, Iterable):
        raise TypeError(f"metrics: {names!r} is no sequence of names; {advice}")
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if not isinstance(name, str):
            raise TypeError(f"metrics: {name!r} is no name; {advice}")
        if name not in known:
            raise ValueError(f"metrics: no instrument is called {name!r}; {advice}")
    return frozenset(wanted)
