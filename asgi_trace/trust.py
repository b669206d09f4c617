"""Trust: may this caller's context be continued, and where may ours be sent?

No specification rules on either, so both default to what every OpenTelemetry library does (continue and send
everywhere), and both take networks or host patterns, or a callable that decides alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from ._guard import Guard
from ._options import plain_function, texts
from ._types import Scope

__all__ = ["Destinations", "Networks", "caller_policy"]

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
        return _guarded(plain_function("trust", trust))
    networks = Networks(trust, option="trust")
    return lambda scope: bool(scope.get("client")) and scope["client"][0] in networks


def _guarded(decide: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """`decide`, whose failure is a no, logged once at ERROR and after that at DEBUG."""
    guard = Guard()

    def guarded(subject: Any) -> bool:
        try:
            return bool(decide(subject))
        except Exception:
            guard.report(f"{decide!r} (the answer is no)")
            return False

    return guarded


class Destinations:
    """Where trace context and baggage may be sent: host patterns or a callable of the URL; None is everywhere.

    `*` and `?` are wildcards, letters match in either case, and `*.good.test` means the hosts below `good.test`, not
    itself. A pattern with a port (`api.test:8443`) counts for that port only.
    Raises ValueError for a pattern that is no host.
    """

    def __init__(self, propagate_to: str | Iterable[str] | Callable[[Any], bool] | None) -> None:
        self.everywhere = propagate_to is None
        self._decide: Callable[[Any], bool] | None = None
        self._patterns: tuple[tuple[re.Pattern[str], int | None], ...] = ()
        if callable(propagate_to):
            self._decide = _guarded(propagate_to)
        elif propagate_to is not None:
            hosts = (propagate_to,) if isinstance(propagate_to, str) else propagate_to
            self._patterns = tuple(_host_pattern(host) for host in hosts)

    def allow(self, url: Any, host: str, port: int) -> bool:
        """May a request to `url` carry our context? `host` without brackets, `port` as used on the wire."""
        if self.everywhere:
            return True
        if self._decide is not None:
            return self._decide(url)
        host = host.lower().rstrip(".")
        return any(pattern.fullmatch(host) and wanted in (None, port) for pattern, wanted in self._patterns)


_HOST_PATTERN = re.compile(
    r"(?:\[([0-9a-fA-F:.*?]+)\]|([^\[\]/@:\s]+)|([0-9a-fA-F.:*?]*:[0-9a-fA-F.:*?]*:[^\s/@]*))(?::(\d+))?"
)


def _host_pattern(text: str) -> tuple[re.Pattern[str], int | None]:
    match = _HOST_PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"propagate_to: {text!r} is no host pattern; write one like 'api.test' or '*.test:8443'")
    host = (match[1] or match[2] or match[3]).lower().rstrip(".")
    glob = re.escape(host).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(glob), int(match[4]) if match[4] else None
