"""A span with the state of the SDK's own, made in a fraction of the time.

It is a subclass that skips the constructor. What a span needs is in slots; everything else that the SDK's methods read
(`_context`, `_attributes`, `_resource`, lists of events and links) is made or looked up when it is read. Starting,
ending, events, links, status and exceptions are the SDK's own methods, inherited. A method is written here only because
it is called for every span, and it hands anything unusual to the SDK's.

Slots, since CPython reads a slot in a third of the instructions of a field that has a default in its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import RLock
from time import time_ns
from typing import Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import _tracer_metrics
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, Status, StatusCode

from .._propagation.traceparent import RemoteParent, remote_span_context, remote_trace_id
from .attributes import LazyField, SpanAttributes, need_no_cleaning
from .tracer_settings import FLAGS, MOST_FACTS, RANDOM, SAMPLED, TracerSettings

UNSET = Status(StatusCode.UNSET)
NO_STATE = INVALID_SPAN_CONTEXT.trace_state
_NOTHING: tuple[Any, ...] = ()
_making_a_lock = RLock()
_REMOVED: Any = object()
"""Stands for the None that something has put in the place of a span's attributes."""
_new = object.__new__
_new_tuple: Any = tuple.__new__  # what the constructor of a span context comes to, without its checks


class _FromSettings:
    """A field that is the same for all spans of a tracer, until a span is given one of its own."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else getattr(instance._settings, self._name)

    def __set__(self, instance: Any, value: object) -> None:
        instance._settings = instance._settings.replaced(**{self._name: value})


class _ListField(LazyField):
    """A list of events or links, made at the first read; the span is told that there is one."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        instance._listed = True
        fields = vars(instance)
        # setdefault() is one atomic step, so all threads that read at the same time get the same list.
        return fields[self._name] if self._name in fields else fields.setdefault(self._name, self._make(instance))

    def __set__(self, instance: Any, value: object) -> None:
        instance._listed = True
        vars(instance)[self._name] = value


class _Span(sdk._Span):  # has the SDK's name as well, since `repr()` shows it
    """Made by `Tracer.start_span`, which fills the slots."""

    __slots__ = (
        "_end_time",
        "_facts",
        "_kind",
        "_last",
        "_listed",
        "_made_attributes",
        "_made_context",
        "_made_lock",
        "_made_parent",
        "_name",
        "_open",
        "_remote",
        "_settings",
        "_span_id",
        "_start_time",
        "_status",
        "_trace_id",
        "_values",
    )

    _settings: TracerSettings
    _trace_id: int
    _span_id: int
    _remote: RemoteParent | None
    """The caller of a request: what the parent and the trace id are made of when something asks for them."""
    _made_parent: Any
    """The parent's context; with `_remote`, once something has asked for it."""
    _made_context: SpanContext | None
    """The span's context, once something has asked for it."""
    _open: bool
    """Deleted by the call that ends the span."""
    _made_lock: Any
    """Made by the first method that needs it: while there is none, nothing has touched the attributes."""
    _values: dict[str, Any]
    """The attributes, without those that `_facts` become: the very dict inside of `_made_attributes`, where that exists
    before the span's end. None: that is of another class."""
    _facts: Any
    """A tuple whose first item turns it into attributes, when something asks for them. They come before `_values`."""
    _last: Any
    """What `finish()` was given, which the same item turns into attributes behind `_values`. None once they are there,
    and where there is nothing."""
    _made_attributes: Any
    """What the SDK's methods see as `_attributes`, once something has asked for it."""
    _listed: bool
    """Whether there is a list of events or links."""

    _trace_config = None
    _record_exception = True
    _set_status_on_exception = True
    _record_end_metrics = staticmethod(_tracer_metrics.noop)
    _events: Any = _ListField(lambda span: span._new_events())
    _links: Any = _ListField(lambda span: span._new_links(()))
    _resource: Any = _FromSettings("resource")
    _instrumentation_info: Any = _FromSettings("instrumentation_info")
    _instrumentation_scope: Any = _FromSettings("instrumentation_scope")
    _sampler: Any = _FromSettings("sampler")
    _span_processor: Any = _FromSettings("span_processor")
    _limits: Any = _FromSettings("limits")

    def get_span_context(self) -> SpanContext:
        """See `opentelemetry.trace.Span`."""
        made = self._made_context
        if made is None:
            parent: Any = self._parent
            if parent is None:
                values = (self._trace_id, self._span_id, False, FLAGS[SAMPLED + RANDOM], NO_STATE, True)
            else:
                flags = FLAGS[SAMPLED | (parent[3] & RANDOM)]
                values = (parent[0], self._span_id, False, flags, parent[4], True)
            self._made_context = made = _new_tuple(SpanContext, values)
        return made

    def ids(self) -> tuple[int, int]:
        """Trace id and span id, for which no span context is made."""
        made = self._made_context
        if made is not None:
            return made[0], made[1]
        remote = self._remote
        return self._trace_id if remote is None else remote_trace_id(remote), self._span_id

    def is_sampled(self) -> bool:
        """Whether the trace flags say so. Where the sampler was not asked, a span that is recorded is sampled."""
        made = self._made_context
        return made is None or bool(made[3] & SAMPLED)

    @property
    def _lock(self) -> Any:  # type: ignore[override]
        """Reentrant: what is made at the first read may be read by a method that holds it."""
        made = self._made_lock
        if made is None:
            with _making_a_lock:
                made = self._made_lock
                if made is None:
                    made = self._made_lock = RLock()
        return made

    @property
    def _context(self) -> SpanContext:
        return self.get_span_context()

    @_context.setter
    def _context(self, value: SpanContext) -> None:
        self._forget_remote()
        self._made_context = value

    @property
    def _parent(self) -> Any:
        made = self._made_parent
        if made is None and self._remote is not None:
            self._made_parent = made = remote_span_context(self._remote)
        return made

    @_parent.setter
    def _parent(self, value: Any) -> None:
        self._forget_remote()
        self._made_parent = value

    def _forget_remote(self) -> None:
        """Keep ids and parent as they are: one of them is about to be replaced by another one."""
        self._made_parent, self._made_context, self._remote = self._parent, self.get_span_context(), None

    @property
    def _attributes(self) -> Any:
        made = self._made_attributes
        if made is None:
            with self._lock:
                made = self._made_attributes
                if made is None:
                    made = self._made_attributes = self._describe()
        return None if made is _REMOVED else made

    @_attributes.setter
    def _attributes(self, value: Any) -> None:
        self._made_lock = self._lock  # which says that something has touched them
        self._keep_attributes(value)

    def _keep_attributes(self, value: Any) -> None:
        self._made_attributes = _REMOVED if value is None else value
        self._values = value._dict if type(value) is SpanAttributes else None  # type: ignore[assignment]

    def _describe(self) -> SpanAttributes:
        """The attributes, with what the facts become. Call it with the lock.

        Before the end, `_values` is replaced by the dict of the result, so that later attributes reach that. After it
        nothing is added any more, and an encoder may be reading `_values` at the same time: that stays as it is.
        """
        values, facts, ended = self._values, self._facts, self._end_time is not None
        if facts is not None:
            values = {**facts[0].attributes(facts), **values}
            if not ended:
                self._values = values
            elif self._last is not None:
                values.update(facts[0].last_attributes(self._last))
        made = self._settings.attribute_limits.around(values)
        made._immutable = ended
        return made

    def set_attribute(self, key: str, value: Any) -> None:
        """See `opentelemetry.trace.Span`."""
        settings = self._settings
        if type(value) in settings.uncleaned and type(key) is str and key:
            lock = self._made_lock or self._lock
            lock.acquire()  # not `with`, which takes twice the instructions
            try:
                values = self._values
                if (
                    self._end_time is None
                    and values is not None
                    and len(values) < settings.room
                    and (self._facts is None or self._made_attributes is not None or self._is_late(values, key))
                ):
                    values.pop(key, None)  # an attribute that is set again moves to the end, as in the SDK
                    values[key] = value
                    return
            finally:
                lock.release()
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """See `opentelemetry.trace.Span`."""
        settings = self._settings
        if type(attributes) is dict:
            given = attributes.copy()  # the copy is checked: another thread may change the original meanwhile
            if need_no_cleaning(given, settings.uncleaned):
                with self._lock:
                    values = self._values
                    if (
                        self._end_time is None
                        and values is not None
                        and len(values) + len(given) <= settings.room
                        and (
                            self._facts is None
                            or self._made_attributes is not None
                            or (
                                len(values) + len(given) <= MOST_FACTS
                                and all(self._is_late(values, key) for key in given)
                            )
                        )
                    ):
                        for key, value in given.items():
                            values.pop(key, None)
                            values[key] = value
                        return
        super().set_attributes(attributes)

    def _is_late(self, values: dict[str, Any], key: str) -> bool:
        """Whether an attribute belongs behind those that the facts become, and surely has room there."""
        return len(values) < MOST_FACTS and key not in self._facts[0].keys

    def keep(self, facts: Any) -> None:
        """Describe the span by `facts`. Call it before anything else can look at the span."""
        self._facts = facts

    def add(self, attributes: dict[str, Any]) -> None:
        """Set attributes of a span that keeps facts: a few, which need no cleaning and are none of the facts."""
        values = self._values
        if (
            self._made_attributes is not None
            or self._end_time is not None
            or (values and not (len(values) < MOST_FACTS and values.keys().isdisjoint(attributes)))
        ):
            self.set_attributes(attributes)
            return
        values.update(attributes)
        if self._made_lock is not None:  # another thread may have made attributes of the facts and the earlier values
            with self._lock:
                self._values.update(attributes)

    def update_name(self, name: str) -> None:
        """See `opentelemetry.trace.Span`."""
        with self._lock:
            if self._end_time is None:
                self._name = name
                return
        super().update_name(name)

    def start_with(self, lists: Mapping[str, Any]) -> None:
        """Add attributes that are lists of text behind the facts, before anything else can know this span.

        So no lock is made, and `finish()` need not look at them: 15,000 instructions less than `set_attributes()`.
        """
        if len(lists) < MOST_FACTS // 2:
            self._values = {key: tuple(values) for key, values in lists.items()}
        else:  # the limits may be reached
            self.set_attributes(lists)

    def finish(self, last: Any, old_name: str, name: str | None, end_time: int) -> None:
        """End a span that started from facts with its last ones, and rename it if it still has `old_name`.

        The first of the facts turns `last` into a few attributes, which need no cleaning and are none of the facts.
        """
        settings = self._settings
        on_end = settings.on_end
        if (
            on_end is None
            or settings.multi_processor._span_processors is not settings.processors
            or (self._made_lock is not None and (self._values or self._made_attributes is not None))
            or self._end_time is not None
        ):
            if name is not None and self._name == old_name:
                self.update_name(name)
            self.set_attributes(self._facts[0].last_attributes(last))
            self.end(end_time)
            return
        try:
            del self._open  # as in end()
        except AttributeError:
            self.end(end_time)
            return
        self._last = last
        if name is not None and self._name == old_name:
            self._name = name
        self._end_time = end_time
        if self._made_lock is not None:
            with self._lock:  # another thread may have added attributes, or made some of the facts and earlier values
                self._values.update(self._facts[0].last_attributes(last))
                self._last = None
            self._wait_for_writers()
        on_end(self)

    def end(self, end_time: int | None = None) -> None:
        """See `opentelemetry.trace.Span`.

        Of all threads that end a span, the one that deletes `_open` does: that is one step. No lock is needed where no
        method has asked for one. A writer makes the lock before it looks at `_end_time`, so either it sees the end, or
        the end sees its lock and waits until it has written. (A lock for each span took 2,300 instructions.)
        """
        settings = self._settings
        on_end = settings.on_end
        try:
            del self._open
        except AttributeError:
            if self._end_time is None:  # another thread is about to set it
                sdk.logger.warning("Calling end() on an ended span.")
            else:
                super().end(end_time)
            return
        if on_end is None or settings.multi_processor._span_processors is not settings.processors:
            super().end(end_time)
            return
        self._end_time = time_ns() if end_time is None else end_time
        if self._made_lock is not None:
            self._wait_for_writers()
        on_end(self)

    def _wait_for_writers(self) -> None:
        with self._lock:
            if self._made_attributes is not None:
                self._made_attributes._immutable = True

    def _readable_span(self) -> sdk.ReadableSpan:
        made = _new(sdk.ReadableSpan)
        made._name = self._name
        made._context = self._context
        made._parent = self._parent
        made._kind = self._kind
        made._resource = self._resource
        made._attributes = self._attributes
        made._events = self._events if self._listed else _NOTHING
        made._links = self._links if self._listed else _NOTHING
        made._status = self._status
        made._start_time = self._start_time
        made._end_time = self._end_time
        made._instrumentation_info = self._instrumentation_info
        made._instrumentation_scope = self._instrumentation_scope
        return made


def new_span(settings: TracerSettings, name: str, parent: Any, kind: Any, attributes: Any, start_time: Any) -> _Span:
    """A span that has just started, but for its ids: what the SDK's constructor does."""
    span = _new(_Span)
    span._settings = settings
    span._name = name
    span._made_parent = parent
    span._kind = kind
    span._status = UNSET
    span._listed = False
    span._open = True
    span._made_lock = None
    span._remote = None
    span._facts = None
    span._last = None
    span._made_context = None
    span._made_attributes = None
    if not attributes:
        span._values = {}
    elif type(attributes) is dict and (values := settings.attribute_limits.kept(attributes)) is not None:
        span._values = values
    else:
        span._keep_attributes(settings.attribute_limits.attributes(attributes))
    span._start_time = time_ns() if start_time is None else start_time
    span._end_time = None  # pyright: ignore[reportAttributeAccessIssue]
    return span


def readable_spans(spans: Sequence[sdk.ReadableSpan]) -> Sequence[sdk.ReadableSpan]:
    """Ended spans as the SDK hands them to an exporter: `ReadableSpan` objects and no more."""
    return [span._readable_span() if type(span) is _Span else span for span in spans]
