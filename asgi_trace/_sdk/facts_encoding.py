"""The facts of a request as the bytes of its span's attributes: what their description says of them, in its order.

Most of a request's facts are the same again and again, and are encoded once: those of method, scheme, version and host
together, the query, the address and the user agent. The others are text and a number between bytes that are known: the
head of such a field depends on nothing but the length of its text. The number and the length of what is remembered are
bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .._options.text import MOST_TEXT
from .._semconv.client import ClientDescription, ClientFacts, known_server
from .._semconv.names import (
    CLIENT_ADDRESS,
    PATH,
    PEER_ADDRESS,
    PEER_PORT,
    QUERY,
    RESEND_COUNT,
    URL_FULL,
    USER_AGENT,
)
from .._semconv.server import ServerAnswer, ServerDescription, ServerFacts, path_of, shared_attributes
from .._types import Attributes
from .protobuf import key_value, sized, varint

MAX_REMEMBERED, MAX_LENGTH = 256, 256

_SPAN_ATTRIBUTE = b"\x4a"
_QUESTION_MARK = ord("?")
"""A number, since `b"?" in path` raises an exception inside and clears it, and `find()` takes 600 instructions more."""
_SLASH = ord("/")
_SHORT, _SHORT_URL = 64, 256
"""Text that is shorter has a head that is prepared."""


def _field(key: str, value: Any) -> bytes:
    return sized(_SPAN_ATTRIBUTE, key_value(key, value))


def _fields(attributes: Attributes) -> bytes:
    return b"".join([_field(key, value) for key, value in attributes.items()])


def _heads(key: str, most: int) -> tuple[bytes, ...]:
    """What stands in front of ASCII text of each length below `most`, as the value of `key`."""
    return tuple(_field(key, "x" * length)[: -length or None] for length in range(most))


_PATH, _URL = _heads(PATH, _SHORT), _heads(URL_FULL, _SHORT_URL)
_TWO_BYTES = 1 << 14
"""The first number whose varint has more than two bytes."""
_HIGH_PORT = _field(PEER_PORT, 65535)[:-3]
"""What stands in front of a port whose varint has three bytes, as that of nearly every caller."""
# That varint in two parts: seven bits that something follows, and all that is above them. To compute the three numbers
# took 1,000 instructions more than to look the two parts up.
_LOW_BITS = tuple(bytes((bits | 128,)) for bits in range(128))
_ABOVE = tuple(varint(bits) for bits in range(1 << 9))


class FactsEncoder(Protocol):
    """Encodes the facts that one description describes."""

    def fields(self, facts: Any) -> Iterable[bytes]:
        """The fields of all attributes that the facts become, in pieces."""
        ...


def facts_encoder(description: ServerDescription | ClientDescription) -> FactsEncoder:
    """A new encoder for the facts that begin with this description."""
    return ServerFactsEncoder() if isinstance(description, ServerDescription) else ClientFactsEncoder()


class ServerFactsEncoder:
    """Encodes the facts of requests that are served, and remembers the frequent ones."""

    def __init__(self) -> None:
        self._shared: dict[tuple[Any, ...], bytes] = {}
        self._queries: dict[bytes, bytes] = {}
        self._peers: dict[str, bytes] = {}
        self._user_agents: dict[bytes | None, bytes] = {}

    def fields(self, facts: ServerFacts) -> Iterable[bytes]:
        """The fields of all attributes that the facts become, in pieces."""
        description, (kind, scheme, path, query, version, (address, port)), method, host, user_agent = facts
        shared = kind, method, scheme, version, host
        head, peer = self._shared.get(shared), self._peers.get(address)
        # What is remembered is usual, so most requests need no more than a look at the path and the port.
        if head is None or peer is None or path[0] != _SLASH or type(port) is not int or port < _TWO_BYTES:
            if not description.is_usual(facts):
                return (_fields(description.attributes(facts)),)
            head, peer = head or self._share(shared), peer or self._peer(address)
        length = len(path)
        if length < _SHORT and path.isascii() and _QUESTION_MARK not in path:
            path_head = _PATH[length]
        else:
            path_head, path = _field(PATH, path_of(facts)), b""
        asked = self._queries.get(query)
        if _TWO_BYTES <= port < 65536:
            low, high = _LOW_BITS[port & 127], _ABOVE[port >> 7]
        else:
            peer, low, high = peer[: -len(_HIGH_PORT)], _field(PEER_PORT, port), b""
        agent = self._user_agents.get(user_agent)
        return (
            head,
            path_head,
            path,
            self._query(query, description) if asked is None else asked,
            peer,
            low,
            high,
            self._user_agent(user_agent) if agent is None else agent,
        )

    def _share(self, shared: tuple[Any, ...]) -> bytes:
        fields = _fields(shared_attributes(*shared))
        if len(self._shared) < MAX_REMEMBERED:
            self._shared[shared] = fields
        return fields

    def _query(self, query: bytes, description: ServerDescription) -> bytes:
        given = query.decode("utf-8", "replace")
        text = description.redaction.query(given)[:MOST_TEXT]
        field = _field(QUERY, text) if text else b""
        if text == given and len(query) <= MAX_LENGTH and len(self._queries) < MAX_REMEMBERED:  # no secret stays here
            self._queries[query] = field
        return field

    def _peer(self, address: str) -> bytes:
        """The fields of the address, and the head of the port's as it is of nearly every port."""
        fields = _field(CLIENT_ADDRESS, address) + _field(PEER_ADDRESS, address) + _HIGH_PORT
        if len(self._peers) < MAX_REMEMBERED and len(address) <= MAX_LENGTH:
            self._peers[address] = fields
        return fields

    def _user_agent(self, user_agent: bytes | None) -> bytes:
        field = b"" if user_agent is None else _field(USER_AGENT, user_agent.decode("latin-1"))
        if len(self._user_agents) < MAX_REMEMBERED and len(user_agent or b"") <= MAX_LENGTH:
            self._user_agents[user_agent] = field
        return field


class AnswerEncoder:
    """Encodes status and route of requests that were served, and remembers the frequent ones."""

    def __init__(self) -> None:
        self._known: dict[ServerAnswer, bytes] = {}

    def __call__(self, last: ServerAnswer) -> bytes:
        """The fields of the attributes that they become."""
        status, route = last
        if type(status) is not int:  # as a key of a dict, 200 == 200.0
            return _fields(ServerDescription.last_attributes(last))
        return self._known.get(last) or self._encode(last, route or "")

    def _encode(self, last: ServerAnswer, route: str) -> bytes:
        fields = _fields(ServerDescription.last_attributes(last))
        if len(self._known) < MAX_REMEMBERED and len(route) <= MAX_LENGTH:
            self._known[last] = fields
        return fields


class ClientFactsEncoder:
    """Encodes the facts of requests that are sent, and remembers those of the frequent servers."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, str, bytes], bytes] = {}

    def fields(self, facts: ClientFacts) -> Iterable[bytes]:
        """The fields of all attributes that the facts become, in pieces."""
        description, method, url, host, earlier, _ = facts
        server = method, url.scheme, host
        text = description.redaction.url(str(url))
        if len(text) < _SHORT_URL and text.isascii():
            head, full = _URL[len(text)], text.encode()
        else:
            head, full = _field(URL_FULL, text[:MOST_TEXT]), b""
        return (
            self._servers.get(server) or self._server(server, facts),
            head,
            full,
            _field(RESEND_COUNT, earlier) if earlier else b"",
        )

    def _server(self, server: tuple[str, str, bytes], facts: ClientFacts) -> bytes:
        fields = _fields(facts[0].server(facts))
        if len(self._servers) < MAX_REMEMBERED and facts[5] is None and known_server(*server) is not None:
            self._servers[server] = fields  # they depend on nothing else
        return fields
