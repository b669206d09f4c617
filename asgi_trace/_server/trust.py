"""Trust: may this caller's trace context be continued?

No specification rules on it, so the default is what every OpenTelemetry library does: continue. The option takes
networks, or a callable that decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from .._guard import guarded_decision
from .._options.checks import plain_function, texts
from .._types import Scope

__all__ = ["Networks", "caller_policy"]

_NETWORKS = "networks like '10.0.0.0/8' or '::1'"
_LONGEST_ADDRESS = 64  # an IPv6 address with a zone id; longer text is no address and must not fill the cache


class Networks:
    """Answers `address in networks`. Text that is no address is in none of them; `::ffff:10.0.0.1` is `10.0.0.1`, in
    networks too.

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
        raise ValueError(f"{option}: {text!r} is no network ({exc}); write {_NETWORKS}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def caller_policy(trust: bool | str | Iterable[str] | Callable[[Scope], bool]) -> Callable[[Scope], bool] | None:
    """Turn the option `trust` into a question about a scope; None when everyone is trusted.

    A caller without an address (a unix socket) is in no network. A callable that raises means no.
    Raises ValueError or TypeError for anything that is no such option.
    """
    if trust is True:
        return None
    if trust is False:
        return lambda scope: False
    if callable(trust):
        return guarded_decision(plain_function("trust", trust))
    networks = Networks(trust, option="trust")
    return lambda scope: bool(scope.get("client")) and scope["client"][0] in networks
