"""One send of a client's request: its headers on the way, its span, its body, its one end.

A call is told what happened and never does I/O. While the request is on its way it carries headers of ours; when the
response's headers have arrived, or when there will be none, the request's own headers are put back. The span ends when
the response's body has been read or closed, when either half fails, or when the caller has dropped the response.
Telemetry that fails is reported once and changes nothing.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections import deque
from time import time_ns
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from .._otel.context import attach, get_current, restore
from .._otel.exceptions import ERROR
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
from .._types import Attributes
from .config import ClientConfig
from .exceptions import without_secrets
from .metrics import CallMetrics
from .resend import HISTORY, History, copy_of

TELEMETRY_MODULES = (
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "asgi_trace._sdk",
    "asgi_trace._export",
    "asgi_trace._configuration",
)
"""What handles a span that has ended, and may hold a lock meanwhile: see `_is_inside_telemetry`."""

_on_the_way: dict[int, Call] = {}
"""The call that a request object is sent by right now, by the object's id: with a dict the claim is one atomic step."""
dropped: deque[Call] = deque()
"""Calls of any transport whose response was collected as garbage while the SDK was at work in the same thread."""


class Call:
    """State of one send whose headers we write; the settings are its `config`'s.

    `request` is what is to be sent: the caller's own object, or a copy where that is on its way already. It is None
    when the send is over. `span` and `metrics` stay None when nothing records the send.
    """

    __slots__ = (
        "_last_read",
        "_own_headers",
        "_token",
        "_url",
        "config",
        "context",
        "history",
        "keeps_facts",
        "metrics",
        "number",
        "request",
        "span",
        "started_at",
    )

    context: Context
    """What is current during the send; set when something records it."""
    started_at: int
    """Nanoseconds since the epoch, as the span's."""
    keeps_facts: bool
    """Does the span keep the facts of the request, and take a few attributes without a check?"""

    def __init__(self, config: ClientConfig, request: Any) -> None:
        self.config = config
        self.request: Any = request
        self.history: History | None = None
        self.span: Span | None = None
        self.metrics: CallMetrics | None = None
        self.number = -1
        self.keeps_facts = False
        self._own_headers: Any = None
        self._token: Any = None

    def known_history(self, request: Any) -> History:
        """What is known of earlier sends of the request, or will be of later ones."""
        history: History = request.extensions.get(HISTORY) or History(request.url)
        if self.history is None:  # no call since: another send that shares it cannot have come between
            self.history = history
        return self.history

    def announce(self) -> History:
        """Let later sends of the request, and other transports further in, know of this send."""
        request, config = self.request, self.config
        history = self.known_history(request)
        if HISTORY not in request.extensions:
            request.extensions = {**request.extensions, HISTORY: history}  # a new dict: httpx 0.27 shares the caller's
        if not config.is_innermost:
            history.senders.append(config)
        return history

    def count(self, history: History) -> None:
        """Let this send count for the later ones of the request, once."""
        if self.number < 0:  # no call up to the last line: another send that shares the history cannot come between
            self.number = history.count
            history.count = self.number + 1

    def earlier_sends(self, request: Any) -> int:
        """How many sends of `request`, which is this call's, came before this one."""
        if self.number >= 0:
            return self.number
        return request.extensions[HISTORY].count if HISTORY in request.extensions else 0

    def enter(self) -> None:
        """Make the call's context the current one until there is a response."""
        self._token = attach(self.context)

    def leave(self) -> None:
        """The request is no longer on its way: there is a response, or there will be none."""
        request, self.request = self.request, None
        if request is None:
            return
        request.headers = self._own_headers
        _on_the_way.pop(id(request), None)
        history, config = self.history, self.config
        if history is not None and history.senders and config in history.senders:
            history.senders.remove(config)
        try:
            if self._token is not None:
                restore(self._token)
        except ValueError:  # the send went on in another context than it began in
            config.guard.report("leaving the span's context")
        try:
            if self.metrics is not None:
                self.metrics.sent_all(request)
        except Exception:
            config.guard.report("measuring a request")

    def started(self, response: Any) -> None:
        """The response's headers have arrived; from here on its body is watched, unless it is in memory already."""
        if self.span is None and self.metrics is None:
            self.leave()
            return
        is_watched = False
        try:
            self._describe(response)
            is_watched = not response.is_closed and not response.is_stream_consumed and self._watch(response)
            if self.metrics is not None and not is_watched:
                self.metrics.arrived(response)
        except Exception:
            self.config.guard.report("recording a response")
        except BaseException as exc:  # the program is told to stop
            self.failed(exc)
            raise
        self.leave()
        if not is_watched:
            self.finished()

    def _describe(self, response: Any) -> None:
        status = response.status_code
        config, span, extensions = self.config, self.span, response.extensions
        if not (span is None or self.metrics is not None or config.inspects_response or status >= 400 or extensions):
            if self.keeps_facts:
                span.add({STATUS_CODE: status})  # type: ignore[attr-defined]
            else:
                span.set_attribute(STATUS_CODE, status)  # what follows comes to the same, and costs more
            return
        attributes: Attributes = {STATUS_CODE: status}
        if extensions:
            version = client_protocol(extensions)
            if version is not None:
                attributes[PROTOCOL_VERSION] = version
        if status >= 400:
            attributes[ERROR_TYPE] = str(status)
        if self.metrics is not None:
            self.metrics.labels.update(attributes)
        if span is not None:
            self._describe_on(span, response, attributes)

    def _describe_on(self, span: Span, response: Any, attributes: Attributes) -> None:
        """Set `attributes` and those that are for spans only; call the hook."""
        config, extensions = self.config, response.extensions
        if "network_stream" in extensions:
            peer = client_peer(extensions)
            if peer is not None:
                attributes[PEER_ADDRESS] = peer[0]
                if peer[1] is not None:
                    attributes[PEER_PORT] = peer[1]
        if config.response_headers is not None:
            attributes.update(config.response_headers.attributes(response.headers.raw))
        if self.keeps_facts and config.response_headers is None:
            span.add(attributes)  # type: ignore[attr-defined]
        elif len(attributes) > 2:
            span.set_attributes(attributes)
        else:  # the SDK takes a few of them cheaper one by one
            for key, value in attributes.items():
                span.set_attribute(key, value)
        if response.status_code >= 400:
            span.set_status(ERROR)
        if config.on_response is not None:
            self.tell("on_response", config.on_response, self.request, response)

    def _watch(self, response: Any) -> bool:
        library, stream = self.config.library, response.stream
        if not isinstance(stream, library.stream) or isinstance(stream, library.memory_stream):
            return False
        self._last_read = time_ns()
        self._url = self.request.url
        response.stream = library.body(stream, self)
        return True

    def tell(self, name: str, hook: Any, *arguments: Any) -> None:
        """Call the developer's hook with the span and `arguments`; its failure is reported."""
        try:
            hook(self.span, *arguments)
        except (Exception, CancelledError):  # the latter is no Exception, and libraries raise it by themselves
            self.config.guard.report(name)
        except BaseException as exc:
            self.failed(exc)
            raise

    def read(self, size: int) -> None:
        """`size` bytes of the response's body have arrived."""
        self._last_read = time_ns()
        if self.metrics is not None:
            self.metrics.received += size

    def failed(self, exc: BaseException) -> None:
        """There was no response, or its body ended in `exc`."""
        if self._token is not None and isinstance(exc, GeneratorExit) and get_current() is not self.context:
            self._token = None  # the coroutine is closed from elsewhere: what is current there is to be left alone
        sent_headers = None if self.request is None else self.request.headers
        try:
            self.leave()
            if not self.ended:
                self._blame(exc, sent_headers)
        except Exception:
            self.config.guard.report("recording an error")
        finally:
            if not self.ended:
                self.finished()

    @property
    def ended(self) -> bool:
        """Is there nothing to record any more, or was there never anything?"""
        return self.span is None and self.metrics is None

    def _blame(self, exc: BaseException, sent_headers: Any) -> None:
        """Record why the call failed; what its caller decides is no error. The exception may quote `sent_headers`."""
        if is_cancellation(exc):
            if self.span is not None:
                self.span.set_attribute(CANCELLED, True)
            return
        kind = error_type(exc)
        if self.metrics is not None:
            self.metrics.labels[ERROR_TYPE] = kind
        if self.span is not None:
            if sent_headers is not None:
                exc = without_secrets(exc, sent_headers.raw, self.config.redaction)
            self.span.set_attribute(ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, self.config.errors.description(exc)))
            self.config.errors.record(self.span, self.context, exc, CLIENT_EXCEPTION, SeverityNumber.WARN)

    def finished(self, end: int = 0) -> None:
        """The body has been read or closed, or there is none: end the span, once. `end` is when; 0 means now."""
        span, self.span = self.span, None
        metrics, self.metrics = self.metrics, None
        end = max(end or time_ns(), self.started_at)  # the clock may have been set back meanwhile
        try:
            if span is not None:
                span.end(end)
            if metrics is not None:
                metrics.finished(end - self.started_at)
        except Exception:
            self.config.guard.report("ending a span")

    def closed(self) -> None:
        """The body is read no further: because it did not decode, or because that was enough."""
        if not self.ended:
            exc = sys.exc_info()[1]
            undecoded = _undecoded(exc, self._url)
            if undecoded is not None:
                self.failed(undecoded)
            elif isinstance(exc, GeneratorExit):  # httpx2 closes what is dropped while it is being read
                self.forgotten()
            else:
                self.finished()

    def forgotten(self) -> None:
        """Nothing will be read any more: end the span with the time of the last read."""
        self.finished(self._last_read)

    def dropped(self) -> None:
        """The response has been collected as garbage, whether it was read or not."""
        # That happens at any point, also where this thread holds a lock of the SDK's: then the end has to wait.
        if not self.ended:
            if _is_inside_telemetry():
                dropped.append(self)
            else:
                self.forgotten()


def claim(config: ClientConfig, request: Any) -> Call | None:
    """Take `request` for one send: what is written into the headers of the call's request is taken back at its end.

    Where the request is on its way already the call has a copy of it. None when a transport of ours further out is
    sending it: then there is nothing to do.
    """
    extensions = request.extensions
    if HISTORY in extensions and extensions[HISTORY].has_other_sender(config):
        return None
    call = Call(config, request)
    holder = _on_the_way.setdefault(id(request), call)
    try:
        own = request.headers
        if holder is not call:
            if holder.config is not config and not holder.config.is_innermost:
                return None
            if holder._own_headers is not None:  # it is set before the request's are replaced: so it is read after them
                own = holder._own_headers
            history = holder.known_history(request)
            holder.count(history)
            call.count(history)
            call.request = request = copy_of(request, history)
            _on_the_way[id(request)] = call
        sent = type(own)(own)  # not copy(): that decodes every header, to learn the encoding
        call._own_headers = own
        request.headers = sent
    except BaseException:
        if _on_the_way.get(id(request)) is call:
            del _on_the_way[id(request)]
        raise
    return call


def end_dropped() -> None:
    """End the calls whose response was collected while the SDK was at work."""
    while dropped:
        dropped.popleft().forgotten()


def _undecoded(exc: BaseException | None, url: Any) -> BaseException | None:
    """The library's complaint about a body's encoding, if that is what closes the response to the request of `url`."""
    # httpx2 closes a response before that can be seen here: there the span ends without an error.
    if exc is None or type(exc).__name__ != "DecodingError":
        return None
    try:
        return exc if exc.request.url is url else None  # type: ignore[attr-defined]
    except RuntimeError:  # it belongs to no request
        return None


def _is_inside_telemetry() -> bool:
    """Is this thread somewhere inside of an SDK, a processor or an exporter, which may hold a lock?"""
    frame = sys._getframe(1).f_back
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(TELEMETRY_MODULES):
            return True
        frame = frame.f_back
    return False
