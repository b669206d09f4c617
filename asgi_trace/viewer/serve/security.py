"""One gate in front of the page and the API: which requests are answered.

The dangers are other web pages in the same browser (cross-site requests, and names that are made to point to this
machine) and, off loopback, every other machine on the network. So only known hosts are answered, requests that another
site makes are refused, and off loopback a token is needed.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from ..receive.ports import is_loopback
from .hosts import page_allows

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """An ASGI application in front of `app`. `token` is empty when `host` is loopback: no other machine gets here."""

    def __init__(self, app: Any, *, host: str) -> None:
        self._app = app
        self._host = host
        self._open = not is_loopback(host)
        self.token: str = secrets.token_urlsafe(24) if self._open else ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, refuse, or pass on."""
        headers = Headers(scope=scope)
        answer = self._refusal(scope["method"], headers) or self._entrance(scope, headers)

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in {"content-security-policy": POLICY, **_HEADERS}.items():
                    found.setdefault(name, value)
            await send(message)

        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        if not page_allows(headers.get("host", ""), self._host, is_open=self._open):
            return PlainTextResponse("This Host is not allowed here.\n", 403)
        if not _is_ours(headers):
            return PlainTextResponse("Requests of other sites are not answered.\n", 403)
        if method not in ("GET", "HEAD"):
            return PlainTextResponse("There is nothing to send here.\n", 405, {"allow": "GET, HEAD"})
        return None

    def _entrance(self, scope: Any, headers: Headers) -> Response | None:
        """Where a token is needed: take it from the address into a cookie that neither scripts nor other sites get."""
        if not self.token:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is not None and secrets.compare_digest(given.encode(), self.token.encode()):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = "/" + scope["path"].lstrip("/")  # never `//host`, which a browser takes for another server
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(self._cookie(scope), self.token, httponly=True, samesite="strict", path="/")
            return answer
        kept = _cookie_value(headers.get("cookie", ""), self._cookie(scope))
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if any(secrets.compare_digest(one.encode(), self.token.encode()) for one in (kept, bearer)):
            return None
        return PlainTextResponse("Open the address that asgi-trace printed: the token in it is missing here.\n", 401)

    def _cookie(self, scope: Any) -> str:
        """Cookies do not know ports: the port in the name keeps two viewers apart."""
        server = scope.get("server") or ("", 0)
        return f"asgi-trace-{server[1]}"


def _is_ours(headers: Headers) -> bool:
    """Does this page, the user, or no browser at all make the request? A link to a document may come from anywhere."""
    site = headers.get("sec-fetch-site")
    if site is None or site in ("same-origin", "none"):
        return True
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _cookie_value(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
