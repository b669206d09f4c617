"""Trust: may this caller's trace context be continued?

No specification rules on it, so the default is what every OpenTelemetry library does: continue. The option takes
networks, or a callable that decides alone. Networks judge the address that the middleware knows: the furthest one that
trusted proxies vouch for, else the socket's peer. An address that the server took from a header is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .._guard import Guard, guarded_decision
from .._options.checks import plain_function
from .._types import Headers, Scope
from .forwarded import FORWARDING_HEADERS, vouched_address
from .networks import Networks, TrustedProxies, has_no_port, peer_address

__all__ = ["caller_policy"]

_CLIENT = "asgi_trace.client"

_REMEDY = (
    "the server takes the caller's address from a header, which any caller can send, so these callers are untrusted."
    " Start the server without that (uvicorn: --no-proxy-headers) and name the proxies in trusted_proxies, or give"
    " trust= a callable that decides"
)


def caller_policy(
    trust: bool | str | Iterable[str] | Callable[[Scope], bool], proxies: TrustedProxies | None, guard: Guard
) -> Callable[[Scope], bool] | None:
    """Turn the option `trust` into a question about a scope; None when every caller is trusted.

    A callable is asked with the scope, which has the address that networks would judge as "asgi_trace.client" then;
    None where it is not known. Where the callable raises, the answer is no. `guard` reports an address that the server
    took from a header. Raises ValueError or TypeError for anything that is not such an option.
    """
    if trust is True:
        return None
    if trust is False:
        return lambda scope: False
    if callable(trust):
        return _with_client(guarded_decision(plain_function("trust", trust)), proxies)
    networks = Networks(trust, option="trust")

    def trusted(scope: Scope) -> bool:
        address = _known_address(scope, proxies, guard)
        return address is not None and address in networks

    return trusted


def _with_client(decide: Callable[[Scope], bool], proxies: TrustedProxies | None) -> Callable[[Scope], bool]:
    def decided(scope: Scope) -> bool:
        scope[_CLIENT] = _known_address(scope, proxies, None)
        try:
            return decide(scope)
        finally:
            del scope[_CLIENT]

    return decided


def _known_address(scope: Scope, proxies: TrustedProxies | None, guard: Guard | None) -> str | None:
    """The caller's address. None when it is not known; where the server took it from a header, `guard` says so."""
    headers: Headers = scope.get("headers", ())
    if proxies is not None and proxies.include_peer(scope):
        return vouched_address(scope, headers, proxies)
    address = peer_address(scope)
    if address is None or not (has_no_port(scope) or _is_from_header(address, headers)):
        return address
    if guard is not None:
        guard.warn("trust", _REMEDY)
    return None


def _is_from_header(address: str, headers: Headers) -> bool:
    """Does the request itself name its peer's address? A server that takes it from there copies the text as it is."""
    spoken = [value.decode("latin-1") for name, value in headers if name in FORWARDING_HEADERS]
    if not spoken:
        return False
    return any(re.search(rf"(?<![\w.:]){re.escape(address)}(?![\w.])", value) for value in spoken)
