"""Who may look at the page: hosts, other sites, tokens, and the headers of every answer."""

from __future__ import annotations

import re

import pytest

from ..support.page import live_page, request_span

PATHS = ("/", "/routes", "/api/traces", "/static/page.js", "/nothing", "/?min=x", f"/trace/{1:032x}.json")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers(path: str) -> None:
    """A strict policy without inline script or style, no sniffing, no referrer, no cache, no frame."""
    with live_page(request_span("/a", 1)) as page:
        headers = page.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:16686", 200), ("LOCALHOST.", 200), ("evil.test", 403),
        ("127.0.0.1.evil.test", 403), ("192.168.1.5", 403), ("localhost.evil.test:16686", 403), ("", 403),
    ],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_refused(host: str, status: int) -> None:
    """On loopback only loopback names are answered, on the page and in the API."""
    with live_page() as page:
        for path in ("/", "/api/traces", "/events?x", "/static/page.css"):
            if path.startswith("/events") and status == 200:
                continue
            assert page.get(path, host=host).status_code == status


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("same-origin", "cors", "empty", 200), ("none", "navigate", "document", 200),
        ("cross-site", "navigate", "document", 200), ("same-site", "navigate", "document", 200),
        ("cross-site", "cors", "empty", 403), ("cross-site", "no-cors", "script", 403),
        ("same-site", "no-cors", "image", 403), ("cross-site", "navigate", "iframe", 403), ("odd", "", "", 403),
    ],
)  # fmt: skip
def test_requests_of_other_sites_are_refused(site: str, mode: str, dest: str, status: int) -> None:
    """A link from anywhere may open the page; scripts, images and frames of others get nothing."""
    with live_page() as page:
        headers = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest}
        assert page.get("/api/traces", **headers).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_sent(method: str) -> None:
    """The page takes GET and HEAD only, and allows no foreign origin."""
    with live_page() as page:
        answer = page.client.request(method, "/api/traces", headers={"origin": "http://evil.test"})
        assert answer.status_code == 405
        assert page.client.head("/").status_code == 200


def test_off_loopback_a_token_is_needed() -> None:
    """401 without; the printed address sets a cookie that no script sees; addresses are known hosts, names are not."""
    with live_page(request_span("/a", 1), host="0.0.0.0") as page:
        token = page.gate.token
        assert len(token) >= 22
        for path in ("/", "/api/traces", "/static/page.js", "/events", f"/?token={token}x", "/?token="):
            assert page.get(path).status_code == 401, path
        assert page.get(f"/?token={token}", host="evil.test").status_code == 403
        answer = page.get(f"/api/traces?token={token}&q=a")
        assert (answer.status_code, answer.headers["location"]) == (303, "/api/traces?q=a")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert re.search("SameSite=strict", cookie, re.IGNORECASE)
        assert page.get("/api/traces", host="192.168.1.5:16686").status_code == 200
        assert token not in page.get("/").text
        page.client.cookies.clear()
        assert page.get("/api/traces", authorization=f"Bearer {token}").status_code == 200
        assert page.get("/api/traces", cookie='asgi-trace="\\x').status_code == 401


def test_the_token_leads_to_no_other_server() -> None:
    """A path that begins with two slashes is not redirected to as a host."""
    with live_page(host="0.0.0.0") as page:
        answer = page.client.get(f"{page.url}//evil.test/%2f?token={page.gate.token}")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/evil.test")


def test_on_loopback_there_is_no_token() -> None:
    """No other machine gets there."""
    with live_page() as page:
        assert page.gate.token == ""
        assert "set-cookie" not in page.get("/").headers
