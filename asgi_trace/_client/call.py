"""One send of a client's request: its span, its body, its one end.

A call is told what happened and never does I/O. It ends when the response's body has been read or closed, when either
half fails, or when the caller has dropped the response. Telemetry that fails is reported once and changes nothing.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, Status, StatusCode

from .._otel.exceptions import ERROR, description
from .._semconv.client import client_peer, client_protocol
from .._semconv.http import error_type, is_cancellation
from .._semconv.names import (
    CANCELLED,
    CLIENT_EXCEPTION,
    ERROR_TYPE,
    PEER_ADDRESS,
    PEER_PORT,
    PROTOCOL_VERSION,
    STATUS_CODE,
)
from .._types import Attributes, Headers

if TYPE_CHECKING:
    from .metrics import Measured
    from .start import Outbound

SENDS = "asgi_trace.sends"  # in a request's extensions, which redirects copy
_TELEMETRY = ("opentelemetry.sdk", "opentelemetry.exporter", "asgi_trace._sdk")


class Sends:
    """What the sends of one request (redirects, auth round trips, retries) have in common.

    Also what is told how a send went that nobody records.
    """

    __slots__ = ("active", "context", "count", "lines", "sender", "url")

    def __init__(self, url: Any) -> None:
        self.active = False  # is one of them on its way? Then a transport further in has nothing to add
        self.count = 0  # of those that were traced
        self.url = url
        self.sender: Any = None  # whose transport sent the last one
        self.lines: Headers | None = None  # its headers before ours were written; None when none were
        self.context: Context | None = None  # what was written; None when what the caller had written was removed

    def wrote(self, lines: Headers, context: Context | None) -> None:
        """Remember how the last send changed the headers."""
        self.lines = lines
        self.context = context

    def started(self, request: Any, response: Any) -> None:
        """The response's headers have arrived."""
        self.active = False

    def failed(self, exc: BaseException, request: Any = None) -> None:
        """There was no response."""
        self.active = False


IN_USE = Sends(None)
"""Stands for a call where the request is on its way already: send another object of the same content."""


def twin(request: Any) -> Any:
    """Another request of the same content: its headers are its own, and it counts as one more send."""
    same = object.__new__(type(request))
    same.__dict__.update(request.__dict__)  # copy() leaves out body and extensions
    same.headers = request.headers.copy()
    extensions = request.extensions
    sends: Sends = extensions[SENDS]
    own = Sends(sends.url)
    own.count = sends.count
    own.sender, own.lines, own.context = sends.sender, sends.lines, sends.context
    sends.count += 1
    same.extensions = {**extensions, SENDS: own}
    return same


class Call:
    """State of one send that a span or a meter records; the settings are its `outbound`'s."""

    __slots__ = (
        "_context",
        "_last",
        "_measured",
        "_outbound",
        "_sends",
        "_span",
        "_started_at",
        "_token",
        "_url",
        "ended",
    )

    def __init__(
        self,
        outbound: Outbound,
        sends: Sends,
        span: Span | None,
        measured: Measured | None,
        context: Context,
        started_at: int,
        current: bool,
    ) -> None:
        """`current` puts `context` in place until there is a response."""
        self.ended = False
        self._outbound = outbound
        self._sends: Sends | None = sends
        self._span = span  # None when it does not record
        self._measured = measured  # None when nobody does
        self._context = context
        self._started_at = started_at  # nanoseconds since the epoch, as the span's
        self._token: Any = attach(context) if current else None
        sends.active = True

    def _leave(self) -> None:
        """The request is no longer on its way: there is a response, or there will be none."""
        sends = self._sends
        if sends is not None:
            self._sends = None
            sends.active = False
            if self._token is not None:
                detach(self._token)

    def started(self, request: Any, response: Any) -> None:
        """The response's headers have arrived; from here on its body is watched, unless it is in memory already."""
        outbound, span, measured = self._outbound, self._span, self._measured
        watched = False
        try:
            status = response.status_code
            if span is None or measured is not None or outbound.curious or status >= 400 or response.extensions:
                self._describe(request, response)
            else:  # the same, where there is nothing but the status to tell
                span.set_attribute(STATUS_CODE, status)
            watched = not response.is_closed and not response.is_stream_consumed and self._watch(request, response)
            if measured is not None and not watched:
                measured.arrived(response)
        except Exception:
            outbound.guard.report("recording a response")
        except BaseException as exc:  # the program is told to stop
            self.failed(exc)
            raise
        self._leave()
        if not watched:
            self.finished()

    def _describe(self, request: Any, response: Any) -> None:
        outbound, span, extensions = self._outbound, self._span, response.extensions
        status = response.status_code
        attributes: Attributes = {STATUS_CODE: status}
        if extensions:
            version = client_protocol(extensions)
            if version is not None:
                attributes[PROTOCOL_VERSION] = version
        if status >= 400:
            attributes[ERROR_TYPE] = str(status)
        if self._measured is not None:
            self._measured.labels.update(attributes)
        if span is None:
            return
        if "network_stream" in extensions:
            peer = client_peer(extensions)
            if peer is not None:
                attributes[PEER_ADDRESS] = peer[0]
                if peer[1] is not None:
                    attributes[PEER_PORT] = peer[1]
        if outbound.response_headers is not None:
            attributes.update(outbound.response_headers.attributes(response.headers.raw))
        if len(attributes) > 2:
            span.set_attributes(attributes)
        else:  # the SDK takes few of them cheaper one by one
            for key, value in attributes.items():
                span.set_attribute(key, value)
        if status >= 400:
            span.set_status(ERROR)
        if outbound.on_response is not None:
            self.tell("on_response", outbound.on_response, request, response)

    def _watch(self, request: Any, response: Any) -> bool:
        outbound, stream = self._outbound, response.stream
        if not isinstance(stream, outbound.stream_type) or isinstance(stream, outbound.memory_type):
            return False
        self._last = time_ns()
        self._url = request.url
        response.stream = outbound.body_type(stream, self)
        return True

    def tell(self, name: str, hook: Any, *arguments: Any) -> None:
        """Call the developer's hook, whose failure is reported."""
        try:
            hook(self._span, *arguments)
        except (Exception, CancelledError):  # the one that is no Exception, and that libraries raise by themselves
            self._outbound.guard.report(name)
        except BaseException as exc:
            self.failed(exc)
            raise

    def read(self, size: int) -> None:
        """`size` bytes of the response's body have arrived."""
        self._last = time_ns()
        if self._measured is not None:
            self._measured.received += size

    def failed(self, exc: BaseException, request: Any = None) -> None:
        """There was no response to `request`, or its body ended in `exc`."""
        if isinstance(exc, GeneratorExit):
            self._token = None  # the coroutine may be closed from another context, which is to be left alone
        self._leave()
        if self.ended:
            return
        try:
            if is_cancellation(exc):  # what the caller decides is no error
                if self._span is not None:
                    self._span.set_attribute(CANCELLED, True)
            else:
                self._blame(exc if request is None else self._outbound.tellable(exc, request), error_type(exc))
        except Exception:
            self._outbound.guard.report("recording an error")
        self.finished()

    def _blame(self, exc: BaseException, kind: str) -> None:
        if self._measured is not None:
            self._measured.labels[ERROR_TYPE] = kind
        if self._span is not None:
            self._span.set_attribute(ERROR_TYPE, kind)
            self._span.set_status(Status(StatusCode.ERROR, description(exc)))
            self._outbound.errors.record(self._span, self._context, exc, CLIENT_EXCEPTION, SeverityNumber.WARN)

    def finished(self, end: int = 0) -> None:
        """The body has been read or closed, or there is none: end the span, once. `end` is when; 0 means now."""
        if self.ended:
            return
        self.ended = True
        end = end or time_ns()
        if end < self._started_at:
            end = self._started_at
        try:
            if self._span is not None:
                self._span.end(end)
            if self._measured is not None:
                self._measured.finished(self._context, end - self._started_at)
        except Exception:
            self._outbound.guard.report("ending a span")

    def closed(self) -> None:
        """The body is read no further: because it did not decode, or because that was enough."""
        if not self.ended:
            exc = sys.exc_info()[1]
            undecoded = _undecoded(exc, self._url)
            if undecoded is not None:
                self.failed(undecoded)
            elif isinstance(exc, GeneratorExit):  # httpx2 closes what is forgotten while it is being read
                self.forgotten()
            else:
                self.finished()

    def forgotten(self) -> None:
        """Nobody will read on: end the span with the time of the last read."""
        self.finished(self._last)

    def dropped(self) -> None:
        """The response has been collected as garbage, whether it was read or not."""
        # That happens at any point, also where this thread holds a lock of the SDK's: then the end has to wait.
        if not self.ended:
            if _inside_telemetry():
                self._outbound.dropped.append(self)
            else:
                self.forgotten()


def _undecoded(exc: BaseException | None, url: Any) -> BaseException | None:
    """The library's complaint about a body's encoding, if that is what closes the response to the request of `url`."""
    # httpx2 closes a response before that can be seen here: there the span ends without an error.
    if exc is None or type(exc).__name__ != "DecodingError":
        return None
    try:
        return exc if exc.request.url is url else None  # type: ignore[attr-defined]
    except RuntimeError:  # it belongs to no request
        return None


def _inside_telemetry() -> bool:
    """Is this thread somewhere inside of an SDK, a processor or an exporter?"""
    frame = sys._getframe(1).f_back
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_TELEMETRY):
            return True
        frame = frame.f_back
    return False
