"""The facts of a request as the bytes of its span's attributes: what their description says of them, in its order.

Most of a request's facts are the same again and again, and are encoded once: those of method, scheme, version and host
together, and the user agent. The others are text and a number between bytes that are known: the head of such a field
depends on nothing but the length of its text. The number and the length of what is remembered are bounded.
"""

from __future__ import annotations

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
from .._semconv.server import ServerDescription, ServerFacts, path_of, shared_attributes
from .._types import Attributes
from .protobuf import key_value, sized, varint

MAX_REMEMBERED, MAX_LENGTH = 256, 256

_SPAN_ATTRIBUTE = b"\x4a"
_SHORT, _SHORT_URL = 64, 256
"""Text that is shorter has a head that is prepared."""


def _field(key: str, value: Any) -> bytes:
    return sized(_SPAN_ATTRIBUTE, key_value(key, value))


def _fields(attributes: Attributes) -> bytes:
    return b"".join([_field(key, value) for key, value in attributes.items()])


def _heads(key: str, most: int) -> tuple[bytes, ...]:
    """What stands in front of ASCII text of each length below `most`, as the value of `key`."""
    return tuple(_field(key, "x" * length)[: -length or None] for length in range(most))


_PATH, _QUERY, _URL = _heads(PATH, _SHORT), _heads(QUERY, _SHORT), _heads(URL_FULL, _SHORT_URL)
# The varint of a port, in two parts: seven bits that something follows, and all that is above them.
_HIGH_PORT = _field(PEER_PORT, 65535)[:-3]
_LOW_BITS = tuple(bytes((bits | 128,)) for bits in range(128))
_ABOVE = tuple(varint(bits) for bits in range(1 << 9))


class FactsEncoder(Protocol):
    """Encodes the facts of one kind."""

    def extend(self, parts: list[bytes], facts: Any) -> None:
        """Append the fields of all attributes that the facts become."""


def facts_encoders() -> dict[type[Any], FactsEncoder]:
    """New encoders, by the class of the description that is the first of the facts."""
    return {ServerDescription: ServerFactsEncoder(), ClientDescription: ClientFactsEncoder()}


class ServerFactsEncoder:
    """Encodes the facts of requests that are served, and remembers the frequent ones."""

    def __init__(self) -> None:
        self._shared: dict[tuple[Any, ...], bytes] = {}
        self._addresses: dict[str, bytes] = {}
        self._user_agents: dict[bytes, bytes] = {}

    def extend(self, parts: list[bytes], facts: ServerFacts) -> None:
        """Append the fields of all attributes that the facts become."""
        description, (kind, scheme, raw_path, query, version, (address, port)), method, host, user_agent = facts
        shared = kind, method, scheme, version, host
        parts.append(self._shared.get(shared) or self._share(shared))
        # find(), not `in`, which raises and clears an exception inside
        if len(raw_path) < _SHORT and raw_path.isascii() and raw_path.find(b"?") < 0:
            parts += (_PATH[len(raw_path)], raw_path)
        else:
            parts.append(_field(PATH, path_of(facts)))
        if query:
            text = description.redaction.query(query.decode("utf-8", "replace"))  # query_of(), without the call
            if text.isascii() and len(text) < _SHORT:
                parts += (_QUERY[len(text)], text.encode())
            elif text:
                parts.append(_field(QUERY, text[:MOST_TEXT]))
        parts.append(self._addresses.get(address) or self._address(address))
        if 16384 <= port < 65536:
            parts += (_HIGH_PORT, _LOW_BITS[port & 127], _ABOVE[port >> 7])
        else:
            parts.append(_field(PEER_PORT, port))
        if user_agent is not None:
            parts.append(self._user_agents.get(user_agent) or self._user_agent(user_agent))

    def _share(self, shared: tuple[Any, ...]) -> bytes:
        fields = _fields(shared_attributes(*shared))
        if len(self._shared) < MAX_REMEMBERED:
            self._shared[shared] = fields
        return fields

    def _address(self, address: str) -> bytes:
        fields = _field(CLIENT_ADDRESS, address) + _field(PEER_ADDRESS, address)
        if len(self._addresses) < MAX_REMEMBERED and len(address) <= MAX_LENGTH:
            self._addresses[address] = fields
        return fields

    def _user_agent(self, user_agent: bytes) -> bytes:
        field = _field(USER_AGENT, user_agent.decode("latin-1"))
        if len(self._user_agents) < MAX_REMEMBERED and len(user_agent) <= MAX_LENGTH:
            self._user_agents[user_agent] = field
        return field


class ClientFactsEncoder:
    """Encodes the facts of requests that are sent, and remembers those of the frequent servers."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, str, bytes], bytes] = {}

    def extend(self, parts: list[bytes], facts: ClientFacts) -> None:
        """Append the fields of all attributes that the facts become."""
        description, method, url, host, earlier, _ = facts
        server = method, url.scheme, host
        parts.append(self._servers.get(server) or self._server(server, facts))
        text = description.redaction.url(str(url))
        if len(text) < _SHORT_URL and text.isascii():
            parts += (_URL[len(text)], text.encode())
        else:
            parts.append(_field(URL_FULL, text[:MOST_TEXT]))
        if earlier:
            parts.append(_field(RESEND_COUNT, earlier))

    def _server(self, server: tuple[str, str, bytes], facts: ClientFacts) -> bytes:
        fields = _fields(facts[0].server(facts))
        if len(self._servers) < MAX_REMEMBERED and facts[5] is None and known_server(*server) is not None:
            self._servers[server] = fields  # they depend on nothing else
        return fields
