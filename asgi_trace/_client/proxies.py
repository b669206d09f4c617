"""The proxies that an HTTP client takes from the environment when it builds its own transport.

httpx and httpx2 look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY only as long as they build their own transport.
This gives the same answer for a client that is given a transport, as keys and values of its `mounts`.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.request import getproxies

_NAME = re.compile(r"[\w.-]+(:\d{1,5})?", re.ASCII)
_ADDRESS = re.compile(r"(?P<address>[0-9A-Fa-f:.]+)(?:/(?P<prefix>\d{1,3}))?", re.ASCII)
_BRACKETED = re.compile(r"\[(?P<address>[0-9A-Fa-f:.]+)\](:\d{1,5})?", re.ASCII)


def environment_proxies(wildcards: bool = True) -> dict[str, str | None]:
    """URL patterns and the proxy for each; None means that the pattern's hosts are called without one.

    `wildcards`: does the library know `*.name` in NO_PROXY? httpx ignores such an entry.
    """
    settings = getproxies()
    exceptions = [host.strip() for host in settings.get("no", "").split(",")]
    if "*" in exceptions:
        return {}
    proxies: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        if proxy := settings.get(scheme):
            proxies[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    return proxies | {pattern: None for host in exceptions if (pattern := _pattern(host, wildcards))}


def _pattern(host: str, wildcards: bool) -> str | None:
    """An entry of NO_PROXY as a URL pattern: a name stands for itself and the names below it, an address for itself.

    None for what is none of them: one bad entry must not stop a client from being built.
    """
    if "://" in host:
        return host
    if host.startswith("*."):
        return f"all://{host}" if wildcards and _NAME.fullmatch(host[2:]) else None
    if host.lower() == "localhost":
        return f"all://{host}"
    if bracketed := _BRACKETED.fullmatch(host):
        return f"all://{host}" if _bits(bracketed["address"]) == 128 else None
    if (found := _ADDRESS.fullmatch(host)) and (bits := _bits(found["address"])):
        network = f"/{found['prefix']}" if found["prefix"] else ""
        address = f"[{found['address']}]" if bits == 128 else found["address"]
        return f"all://{address}{network}" if int(found["prefix"] or 0) <= bits else None
    return f"all://*{host}" if _NAME.fullmatch(host) else None


def _bits(address: str) -> int:
    """32 for IPv4, 128 for IPv6, 0 for anything else."""
    try:
        return ip_address(address).max_prefixlen
    except ValueError:
        return 0
