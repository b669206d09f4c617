"""The decisions about one send, before it: is it traced, under what name, and what goes out with it.

`start` reads from top to bottom: may the request be traced, is it ours to trace, start the span, write the context.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import time_ns
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanKind, Tracer

from .._options.text import recordable
from .._otel.api import SPAN_KEY, SUPPRESS_HTTP, SUPPRESSIONS, is_suppressed
from .._otel.context import get_current
from .._otel.lazy_attributes import LazyAttributes
from .._semconv.client import ClientFacts, client_destination
from .._semconv.http import span_name
from .._semconv.names import URL_TEMPLATE
from .._types import Attributes, AttributeValue, Headers
from .call import Call, claim, dropped, end_dropped
from .coexistence import CONTRIB, is_traced_by_contrib
from .config import ClientConfig
from .library import check_request
from .metrics import CallMetrics
from .resend import HISTORY

_CLIENT = SpanKind.CLIENT


def start(config: ClientConfig, request: Any) -> Call | None:
    """Decide about a send and write its headers.

    What comes back has to be told how the send goes, and says which request to send. None: send `request` as it is.
    Raises TypeError for a request of the other library.
    """
    if request.__class__ is not config.library.request:
        check_request(config.library, request)
    ambient = get_current()
    call: Call | None = None
    try:
        if not SUPPRESSIONS.isdisjoint(ambient) and is_suppressed(ambient):
            return None
        tracer = config.tracers.fixed or config.tracers.current()
        is_measured = config.metrics.live()
        is_wanted = (tracer is not None or is_measured) and _is_wanted(config, request)
        # Below a span that is not sampled, where the sampler drops all that is below: starting a span to learn that
        # would take six times as many instructions as the question.
        drops_below = config.tracers.drops_below if is_wanted and not is_measured else None
        is_dropped = drops_below is not None and drops_below(ambient.get(SPAN_KEY))
        is_traced = is_wanted and not is_dropped
        if not (is_traced or ambient or config.must_touch_unsampled):
            return None
        if is_traced and CONTRIB in sys.modules and is_traced_by_contrib(ambient.get(SPAN_KEY), request):
            config.guard.warn("contrib", f"{CONTRIB} traces this client as well: use one of them, not both")
            return None
        call = claim(config, request)
        if call is None:
            return None
        span, raw_headers = None, None
        if is_traced:
            span, raw_headers = _trace(call, ambient, tracer, is_measured)
        elif not config.is_innermost:
            call.announce()  # what is further in would trace it, and send it where this one must not
        elif is_dropped and config.is_on_network and CONTRIB in sys.modules:
            call.context = _hidden_from_contrib(ambient)
            call.enter()
        _write_context(call, ambient, span, raw_headers)
        return call
    except Exception:
        config.guard.report("starting a client span")
        return _without_span(config, request, call, ambient)
    except BaseException as exc:  # the program is told to stop
        if call is not None:
            call.failed(exc)
        raise


def _is_wanted(config: ClientConfig, request: Any) -> bool:
    """May something be recorded? Not if the caller says so, on the request or to the transport."""
    extensions = request.extensions
    if "asgi_trace" in extensions and extensions["asgi_trace"] is False:
        return False
    return config.is_excluded is None or not config.is_excluded(request)


def _trace(
    call: Call, ambient: Context, tracer: Tracer | None, is_measured: bool
) -> tuple[Span | None, Headers | None]:
    """Start the span and what else records the send.

    The span, recorded or not, whose ids are to be sent, and the request's headers, or None where a hook may have
    changed them.
    """
    config, request = call.config, call.request
    raw_headers = request.headers.raw
    call.started_at = time_ns()
    template = _template(request) if "url_template" in request.extensions else None
    span = None if tracer is None else _start_span(call, tracer, ambient, template, raw_headers)
    metrics = None
    if is_measured:
        labels = config.description.server(_facts(call, request, raw_headers))
        metrics = CallMetrics(config.metrics, labels if template is None else {**labels, URL_TEMPLATE: template})
    hook_was_called = _observe(call, ambient, span, metrics)
    return span, None if hook_was_called else raw_headers


def _start_span(call: Call, tracer: Tracer, ambient: Context, template: str | None, raw_headers: Headers) -> Span:
    """Start the span below the one of `ambient`. It is the call's, if it records; its ids are sent in any case."""
    config, request, tracers = call.config, call.request, call.config.tracers
    name = request.method if request.method in config.methods else "HTTP"
    if template is not None:
        name = span_name(name, template)
    if tracers.start_from_facts is not None:
        span = tracers.start_from_facts(name, _CLIENT, ambient, None, call.started_at)
        if span is not None:  # the facts follow, if it records: until then nothing can look at it
            if span.__class__ is not NonRecordingSpan and span.is_recording():
                call.span = span  # which ends it, whatever fails from here on
                _describe(call, span, template, raw_headers)
            return span
    attributes: Mapping[str, AttributeValue]
    if tracers.recorded:
        attributes = _attributes(call, request, template, raw_headers)
    else:  # the last one was not recorded, so most likely this one will not be: they are built if a sampler looks
        attributes = LazyAttributes(_attributes, call, request, template, raw_headers)
    span = tracer.start_span(name, ambient, _CLIENT, attributes, (), call.started_at, False, False)
    tracers.recorded = is_recording = span.__class__ is not NonRecordingSpan and span.is_recording()
    if is_recording:
        call.span = span
    return span


def _describe(call: Call, span: Any, template: str | None, raw_headers: Headers) -> None:
    """Let a span that can keep the facts do so, or describe it at once."""
    config, request = call.config, call.request
    facts = _facts(call, request, raw_headers)
    if not config.description.may_keep(facts):
        span.set_attributes(_attributes(call, request, template, raw_headers))
        return
    call.keeps_facts = True
    span.keep(facts)
    if template is not None:
        span.add({URL_TEMPLATE: template})
    if config.request_headers is not None:
        span.set_attributes(config.request_headers.attributes(raw_headers))


def _observe(call: Call, ambient: Context, span: Span | None, metrics: CallMetrics | None) -> bool:
    """Prepare what is to be recorded of the send, if anything is.

    True when a hook was called, which may have changed the request.
    """
    config = call.config
    contrib_is_patched = config.is_on_network and CONTRIB in sys.modules
    if call.span is None and metrics is None and not contrib_is_patched:
        if not _has_parent(ambient):
            call.count(call.announce())
        elif not config.is_innermost:
            call.announce()  # not counted: below a parent a later send fares as this one does
        return False
    call.count(call.announce())
    context = ambient if span is None else Context({**ambient, SPAN_KEY: span})
    if contrib_is_patched:
        context = _hidden_from_contrib(context)
    call.context = context
    if metrics is not None:
        call.metrics = metrics
        _measure(call, metrics)
    if call.span is not None or contrib_is_patched:
        call.enter()
    if dropped:
        end_dropped()
    if config.on_request is None or call.span is None:
        return False
    call.tell("on_request", config.on_request, call.request)
    return True


def _hidden_from_contrib(context: Context) -> Context:
    """contrib patches the library's own transport: it does nothing where HTTP instrumentation is suppressed."""
    return Context({**context, SUPPRESS_HTTP: True})


def _has_parent(ambient: Context) -> bool:
    parent: Span = ambient.get(SPAN_KEY, INVALID_SPAN)  # type: ignore[assignment]
    return parent.get_span_context().is_valid


def _facts(call: Call, request: Any, raw_headers: Headers) -> ClientFacts:
    return call.config.description.facts(request, raw_headers, call.earlier_sends(request))


def _attributes(call: Call, request: Any, template: str | None, raw_headers: Headers) -> Attributes:
    """The attributes of the span at its start: the facts, and what the caller and the options ask for beside them."""
    config = call.config
    attributes = config.description.attributes(_facts(call, request, raw_headers))
    if template is not None:
        attributes[URL_TEMPLATE] = template
    if config.request_headers is not None:
        attributes.update(config.request_headers.attributes(raw_headers))
    return attributes


def _template(request: Any) -> str | None:
    """The caller's template, as long as the URL is the one that the caller gave it for."""
    template = request.extensions["url_template"]
    history = request.extensions.get(HISTORY)
    is_redirected = history is not None and request.url is not history.url and request.url != history.url
    return recordable(template) if isinstance(template, str) and template and not is_redirected else None


def _measure(call: Call, metrics: CallMetrics) -> None:
    try:
        metrics.started(call.context, call.request, call.config.library)
    except Exception:
        call.config.guard.report("measuring a request")


def _write_context(call: Call, context: Context, span: Span | None, raw_headers: Headers | None) -> None:
    """Write `context`, with `span` in place of its own, into the headers; or remove what must not be sent there.

    `raw_headers` are those of the request, where they are known.
    """
    config, request = call.config, call.request
    try:
        if config.destinations.everywhere or _may_send(config, request.url):
            config.propagation.inject(request.headers, context, span, raw_headers)
        else:
            for name in config.propagation.fields:
                request.headers.pop(name, None)
    except Exception:
        config.guard.report("writing the trace context")


def _may_send(config: ClientConfig, url: Any) -> bool:
    hosts, port = client_destination(url)
    return any(config.destinations.allow(url, host, port) for host in hosts)


def _without_span(config: ClientConfig, request: Any, call: Call | None, context: Context) -> Call | None:
    """What is left when a step has failed: the caller's context is sent; a span that was started ends with the send."""
    try:
        if call is None:
            call = claim(config, request)
        if call is not None:
            if call.span is not None and not hasattr(call, "context"):  # it failed before what follows the span's start
                call.context = Context({**context, SPAN_KEY: call.span})
            _write_context(call, context, None, None)
    except Exception:
        config.guard.report("starting a client span")
    return call
