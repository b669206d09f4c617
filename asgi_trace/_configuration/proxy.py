"""The proxy that the environment names for a URL, by the rules of curl and of Python's own `urllib`."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from .environment import Environment


def proxy_for(url: str, environment: Environment) -> str | None:
    """The URL of the proxy to go through, or None. The names in lower case win, as everywhere."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        found = environment.text("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    elif environment.text("REQUEST_METHOD"):  # under CGI the name in capitals would hold what a client has sent
        found = environment.text("http_proxy", "all_proxy", "ALL_PROXY")
    else:
        found = environment.text("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    exceptions = environment.text("no_proxy", "NO_PROXY") or ""
    if not found or _is_excepted(host, parts.netloc.rpartition("@")[2], exceptions):
        return None
    return found if "://" in found else f"http://{found}"


def _is_excepted(host: str, authority: str, exceptions: str) -> bool:
    if proxy_bypass_environment(authority, {"no": exceptions}):
        return True
    for exception in exceptions.split(","):
        with suppress(ValueError):  # a name, and no network such as 10.0.0.0/8
            if ip_address(host) in ip_network(exception.strip(), strict=False):
                return True
    return False
