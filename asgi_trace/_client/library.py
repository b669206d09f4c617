"""What a transport has to know of its HTTP library, httpx or httpx2, and what belongs to the other one.

The two have the same names, so that a transport of one fits into a client of the other and fails only later, with an
error that does not say why.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_LIBRARIES = ("httpx", "httpx2")


class Library(NamedTuple):
    """The names and classes of one HTTP library, sync or async, that a transport has to tell apart."""

    transport: str
    """The name of our transport for it, to be imported from `asgi_trace.httpx` or `asgi_trace.httpx2`."""
    handler: str
    """The method that its transports have."""
    network: type[Any]
    """Its own transport for the network."""
    request: type[Any]
    url: type[Any]
    stream: type[Any]
    """A body."""
    memory_stream: type[Any]
    """A body that is in memory from the start."""
    body: type[Any]
    """Ours: `body(stream, watcher)` tells the watcher what is read of the stream."""


def package_of(kind: type) -> str:
    """The top package of a class's module."""
    return kind.__module__.partition(".")[0]


def check_transport(library: Library, transport: object) -> None:
    """Raises TypeError for what cannot do the work further in, with what to write instead."""
    other = _other_library(library, transport)
    if other is not None:
        raise TypeError(
            f"transport: {transport!r} is for {other}, this {library.transport} is for {package_of(library.network)};"
            f" write `from asgi_trace.{other} import {library.transport}`"
        )
    if isinstance(transport, type) or not hasattr(transport, library.handler):
        raise TypeError(
            f"transport: {transport!r} has no {library.handler}(); "
            f"write an instance, like {library.transport}({library.network.__name__}())"
        )


def check_request(library: Library, request: object) -> None:
    """Raises TypeError for a request of the other library: a client of that one is about to send it."""
    other = _other_library(library, request)
    if other is not None:
        raise TypeError(
            f"this {library.transport} is for {package_of(library.network)}, and its client is one of {other};"
            f" write `from asgi_trace.{other} import {library.transport}`"
        )


def _other_library(library: Library, thing: object) -> str | None:
    """The name of the other library, if `thing` is of that one and not of `library` as well."""
    kind = thing if isinstance(thing, type) else type(thing)
    packages = {package_of(base) for base in kind.__mro__}
    own = package_of(library.network)
    if own in packages:
        return None
    return next((name for name in _LIBRARIES if name in packages), None)
