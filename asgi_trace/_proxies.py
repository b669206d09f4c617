"""The proxies that an HTTP client takes from the environment when nobody hands it a transport.

httpx and httpx2 look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY only as long as they build their own transport.
This answers the same question for those who hand them one, as keys and values of their `mounts`.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.request import getproxies


def environment_proxies() -> dict[str, str | None]:
    """URL patterns and the proxy for each; None means that the pattern's hosts are called without one."""
    settings = getproxies()
    exceptions = [host.strip() for host in settings.get("no", "").split(",")]
    if "*" in exceptions:
        return {}
    proxies: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        if proxy := settings.get(scheme):
            proxies[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    return proxies | {pattern: None for host in exceptions if (pattern := _pattern(host))}


def _pattern(host: str) -> str | None:
    """An entry of NO_PROXY as a URL pattern: a name stands for itself and the names below it, an address for itself.

    None for what is none of them: one bad entry must not stop a client from being built.
    """
    if "://" in host:
        return host
    if host.startswith(("[", "*.")) or host.lower() == "localhost":
        return f"all://{host}"
    version = _version(host)
    if version == 6:
        address, slash, network = host.partition("/")
        return f"all://[{address}]{slash}{network}"
    if version == 4:
        return f"all://{host}"
    return f"all://*{host}" if re.fullmatch(r"[\w.-]+(:\d{1,5})?", host) else None


def _version(host: str) -> int | None:
    try:
        return ip_address(host.partition("/")[0]).version
    except ValueError:
        return None
