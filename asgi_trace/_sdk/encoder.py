"""A batch of spans as the bytes of an OTLP `ExportTraceServiceRequest`, without protobuf messages in between.

The bytes are those of the official encoder, for the spans of any SDK. A batch that holds something that is not known
here, or that the official encoder complains about, goes to the official encoder as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from types import MappingProxyType
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from .._propagation.traceparent import remote_ids
from .attribute_cache import MAX_LENGTH, MAX_VALUES, AttributeCache
from .attributes import SpanAttributes
from .facts_encoding import AnswerEncoder, FactsEncoder, facts_encoder
from .protobuf import Unknown, attributes, count, fixed64, sized, text, varint
from .span import NO_STATE, UNSET, _Span

_times = Struct("<cQcQ").pack
_KINDS = {id(kind): b"\x30" + varint(kind.value + 1) for kind in SpanKind}
"""By identity: the hash of an enumeration's member is a method in Python, which cost a tenth of encoding a span."""
_LOCAL_PARENT, _REMOTE_PARENT = ((flags << 8).to_bytes(4, "little") for flags in (1, 3))
_LOCAL_END, _REMOTE_END = b"\x7a\x00\x85\x01" + _LOCAL_PARENT, b"\x7a\x00\x85\x01" + _REMOTE_PARENT
"""The status of a span that has none, and the flags."""
_SPAN_HEADS = tuple(b"\x12" + varint(size) for size in range(1024))
"""What stands in front of an encoded span of each size."""
_root_ids, _child_ids = Struct(">2s16s2sQ").pack, Struct(">2s16s2sQ2sQ").pack
_served_ids = Struct(">2s16s2sQ2s8s").pack
_NOTHING: tuple[object, ...] = ()

Encode = Callable[[Sequence[ReadableSpan]], bytes]
Scopes = dict["InstrumentationScope | None", list[bytes]]
Groups = dict[tuple[int, int], tuple[list[bytes], object, object]]


def official_bytes(spans: Sequence[ReadableSpan]) -> bytes:
    """What the official encoder writes."""
    encoded: bytes = encode_spans(spans).SerializeToString()
    return encoded


class SpanEncoder:
    """Encodes batches, and remembers frequent attributes from one to the next."""

    def __init__(self) -> None:
        self._cache = AttributeCache()
        self._facts: dict[Any, FactsEncoder] = {}
        """By the description of facts."""
        self._answer = AnswerEncoder()
        self._resources: dict[int, tuple[_KnownResource, Resource, object]] = {}
        self._equal: dict[Resource, _KnownResource] = {}
        self._names: dict[int, dict[str, bytes]] = {kind: {} for kind in _KINDS}
        """Name and kind of spans, by the kind's identity and the name."""

    def __call__(self, spans: Sequence[ReadableSpan]) -> bytes:
        """The bytes of a batch. Raises what the official encoder raises."""
        try:
            return self.encode(spans)
        except Exception:
            return official_bytes(spans)

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """The bytes of a batch. Raises anything where it has to be left to the official encoder."""
        grouped: dict[_KnownResource, Scopes] = {}
        groups: Groups = {}
        if len(self._resources) > MAX_VALUES:
            self._resources.clear()
            self._equal.clear()
        settings: Any = None
        group: list[bytes] = []
        for span in spans:
            if type(span) is not _Span:
                found = self._group(grouped, groups, span.resource, span.instrumentation_scope)
                found.append(sized(b"\x12", b"".join(self._span(span))))
                continue
            if span._settings is not settings:
                settings = span._settings
                group = self._group(grouped, groups, settings.resource, settings.instrumentation_scope)
            encoded = b"".join(self._live(span))
            size = len(encoded)
            group.append(_SPAN_HEADS[size] if size < 1024 else b"\x12" + varint(size))
            group.append(encoded)
        return b"".join([sized(b"\x0a", resource.spans(scopes)) for resource, scopes in grouped.items()])

    def _group(
        self,
        grouped: dict[_KnownResource, Scopes],
        groups: Groups,
        resource: Resource,
        scope: InstrumentationScope | None,
    ) -> list[bytes]:
        """The list to which the spans of a resource and a scope belong; equal ones belong together."""
        found = groups.get((id(resource), id(scope)))
        if found is None:
            group = grouped.setdefault(self._known(resource), {}).setdefault(scope or None, [])
            found = groups[id(resource), id(scope)] = group, resource, scope  # keeps both, so that ids stay theirs
        return found[0]

    def _known(self, resource: Resource) -> _KnownResource:
        """What is known of a resource. To hash and encode one takes as many instructions as five spans."""
        found = self._resources.get(id(resource))
        # In a process that is forked off its attributes are exchanged, where the SDK leaves the instance's id.
        if found is None or found[2] is not resource.attributes:
            if found is not None:
                self._equal.clear()  # it may be a key there, which is found by identity whatever its hash is now
            known = self._equal.get(resource)
            if known is None:
                known = self._equal[resource] = _KnownResource(resource)
            # The resource is kept, so that its id stays its own.
            found = self._resources[id(resource)] = known, resource, resource.attributes
        return found[0]

    def _live(self, span: _Span) -> list[bytes]:
        """The fields of an ended span of ours, straight from its slots and in the order of `_span`."""
        made, remote = span._made_attributes, span._remote
        if made is not None and type(made) is not SpanAttributes:
            return self._span(span)
        from_afar: Any = True
        if remote is None:
            parent: Any = span._made_parent
            from_afar = parent and parent[2]
            ids = _live_ids(span, parent)
        elif len(remote) > 2:  # with a trace state
            ids = b"".join(_identity(span.get_span_context(), span._parent))
        else:
            trace_id, parent_id = remote_ids(remote)
            ids = _served_ids(b"\x0a\x10", trace_id, b"\x12\x08", span._span_id, b"\x22\x08", parent_id)
        start, end = span._start_time, span._end_time
        parts = [
            ids,
            self._names[id(span._kind)].get(span._name) or self._name(span._kind, span._name),
            # _start_and_end(), without the call; struct raises for what is no number
            _times(b"\x39", start, b"\x41", end) if start and end else _start_and_end(start, end),
        ]
        if made is None:
            facts = span._facts
            if facts is not None:
                parts += (self._facts.get(facts[0]) or self._facts_encoder(facts[0])).fields(facts)
            if span._values:
                self._cache.extend(parts, span._values.items())
            if span._last is not None:
                parts.append(self._answer(span._last))
        else:
            self._cache.extend(parts, made._dict.items())
            if made.dropped:
                parts.append(count(b"\x50", made.dropped))
        if span._listed:
            parts += _events_and_links(span)
        if span._status is UNSET:
            parts.append(_REMOTE_END if from_afar else _LOCAL_END)
        else:
            parts += (_status(span._status), b"\x85\x01", _REMOTE_PARENT if from_afar else _LOCAL_PARENT)
        return parts

    def _facts_encoder(self, description: Any) -> FactsEncoder:
        encoder = facts_encoder(description)
        if len(self._facts) < MAX_VALUES:
            self._facts[description] = encoder
        return encoder

    def _name(self, kind: SpanKind, name: str) -> bytes:
        fields = text(b"\x2a", name) + _KINDS[id(kind)]
        known = self._names[id(kind)]
        if len(known) < MAX_VALUES and len(name) <= MAX_LENGTH:
            known[name] = fields
        return fields

    def _span(self, span: ReadableSpan) -> list[bytes]:
        context: Any = span.get_span_context()
        parent: Any = span.parent
        status = span.status
        parts = [
            *_identity(context, parent),
            text(b"\x2a", span.name),
            _KINDS[id(span.kind)],
            _start_and_end(span.start_time, span.end_time),
        ]
        own: Any = span._attributes if type(span) is ReadableSpan else None
        if type(own) is SpanAttributes:  # ours: read without the three classes around the dict
            self._cache.extend(parts, own._dict.items())
            dropped = own.dropped
        else:
            self._cache.extend(parts, _items(span))
            dropped = span.dropped_attributes
        if dropped:
            parts.append(count(b"\x50", dropped))
        if own is None or span._events is not _NOTHING or span._links is not _NOTHING:
            parts += _events_and_links(span)
        if status is not None:
            parts.append(_status(status))
        parts += [b"\x85\x01", _REMOTE_PARENT if parent and parent.is_remote else _LOCAL_PARENT]
        return parts


def _live_ids(span: _Span, parent: Any) -> bytes:
    """What `_identity` gives, in one step where there is no trace state. Raises for ids that do not fit."""
    made = span._made_context
    if made is None:
        trace_id, span_id, state = span._trace_id, span._span_id, NO_STATE if parent is None else parent[4]
    else:
        trace_id, span_id, _, _, state, _ = made
    if state is NO_STATE or not state:
        trace = trace_id.to_bytes(16, "big")
        if parent is None:
            return _root_ids(b"\x0a\x10", trace, b"\x12\x08", span_id)
        return _child_ids(b"\x0a\x10", trace, b"\x12\x08", span_id, b"\x22\x08", parent[1])
    return b"".join(_identity(span.get_span_context(), parent))


def _identity(context: Any, parent: Any) -> list[bytes]:
    """The ids of a span, its trace state and its parent."""
    trace_state = context.trace_state
    return [
        b"\x0a\x10",
        context.trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        context.span_id.to_bytes(8, "big"),
        text(b"\x1a", ",".join([f"{key}={value}" for key, value in trace_state.items()])) if trace_state else b"",
        b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b"",
    ]


def _start_and_end(start: Any, end: Any) -> bytes:
    if type(start) is int and type(end) is int and start and end:
        return _times(b"\x39", start, b"\x41", end)
    return fixed64(b"\x39", start) + fixed64(b"\x41", end)


def _items(span: ReadableSpan) -> Iterable[tuple[str, Any]]:
    given: Any = span.attributes
    if type(given) is MappingProxyType:
        return given.copy().items()
    return given.items() if given else ()


def _events_and_links(span: ReadableSpan) -> list[bytes]:
    return [
        *(sized(b"\x5a", _event(event)) for event in span.events or ()),
        count(b"\x60", span.dropped_events),
        *(sized(b"\x6a", _link(link)) for link in span.links or ()),
        count(b"\x70", span.dropped_links),
    ]


def _event(event: Event) -> bytes:
    return (
        fixed64(b"\x09", event.timestamp)
        + text(b"\x12", event.name)
        + attributes(b"\x1a", event.attributes)
        + count(b"\x20", event.dropped_attributes)
    )


def _link(link: Link) -> bytes:
    context = link.context
    return b"".join(
        [
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            attributes(b"\x22", link.attributes),
            count(b"\x28", link.dropped_attributes),
            b"\x35",
            _REMOTE_PARENT if context and context.is_remote else _LOCAL_PARENT,
        ]
    )


def _status(status: Status) -> bytes:
    code, description = status.status_code, status.description
    if code is StatusCode.UNSET and not description:
        return b"\x7a\x00"
    if type(code) is not StatusCode:
        raise Unknown
    return sized(b"\x7a", text(b"\x12", description) + count(b"\x18", code.value))


class _KnownResource:
    """How a resource is encoded, for all that are equal to it."""

    __slots__ = ("described", "schema_url")

    def __init__(self, resource: Resource) -> None:
        self.described = sized(b"\x0a", attributes(b"\x0a", resource.attributes))
        self.schema_url = text(b"\x1a", resource.schema_url)

    def spans(self, scopes: Scopes) -> bytes:
        """The spans of this resource, by their scopes."""
        inside = [sized(b"\x12", _scope_spans(*each)) for each in scopes.items()]
        return b"".join([self.described, *inside, self.schema_url])


def _scope_spans(scope: InstrumentationScope | None, spans: list[bytes]) -> bytes:
    if scope is None:
        return b"\x0a\x00" + b"".join(spans)
    described = text(b"\x0a", scope.name) + text(b"\x12", scope.version) + attributes(b"\x1a", scope.attributes)
    return b"".join([sized(b"\x0a", described), *spans, text(b"\x1a", scope.schema_url)])
