"""Networks of addresses, as the options `trust` and `trusted_proxies` take them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from .._options.checks import texts
from .._types import Scope

__all__ = ["Networks", "TrustedProxies", "has_no_port", "peer_address"]

_NETWORKS = "networks like '10.0.0.0/8' or '::1'"
_LONGEST_ADDRESS = 64  # an IPv6 address with a zone id; longer text is not an address, and must not fill the cache


class Networks:
    """Answers `address in networks`. Text that is not an address is in none of them. `::ffff:10.0.0.1` is `10.0.0.1`,
    in networks too.

    Raises ValueError for text that is neither a network nor an address.
    """

    def __init__(self, networks: str | Iterable[str], *, option: str) -> None:
        self._networks = tuple(_network(text, option) for text in texts(option, networks, _NETWORKS))
        self._known = lru_cache(maxsize=1024)(self._covers)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and len(address) <= _LONGEST_ADDRESS and self._known(address)

    def _covers(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _network(text: str, option: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as exc:
        raise ValueError(f"{option}: {text!r} is not a network ({exc}); write {_NETWORKS}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


class TrustedProxies(Networks):
    """The networks of the proxies whose headers count. "unix" among them is a peer without an address.

    Raises ValueError for text that is neither a network, an address nor "unix".
    """

    def __init__(self, networks: str | Iterable[str]) -> None:
        names = texts("trusted_proxies", networks, f"{_NETWORKS}, or 'unix'")
        self._unix = "unix" in names
        super().__init__([name for name in names if name != "unix"], option="trusted_proxies")

    def __bool__(self) -> bool:
        return self._unix or super().__bool__()

    def include_peer(self, scope: Scope) -> bool:
        """Is the peer of this request one of the proxies?

        A peer with port 0 is none: the server has taken its address from a header.
        """
        address = peer_address(scope)
        return self._unix if address is None else address in self and not has_no_port(scope)


def peer_address(scope: Scope) -> str | None:
    """The address of `scope["client"]`; None without one, as on a unix socket (granian: an empty one)."""
    peer: Any = scope.get("client")
    return str(peer[0]) if peer and peer[0] else None


def has_no_port(scope: Scope) -> bool:
    """Is the peer's port 0, which no connection has?"""
    peer: Any = scope.get("client")
    return bool(peer) and len(peer) > 1 and peer[1] in (0, "0")
