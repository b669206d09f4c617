"""The request of a span as a command line."""

from __future__ import annotations

import shlex

from ..receive import http
from ..receive.records import SpanRecord
from ..text import one_line


def curl(span: SpanRecord) -> str | None:
    """`curl` for the request that the span recorded, quoted for a POSIX shell; None when it names no server.

    Header fields and the body are not on a span, and what was redacted there stays redacted.
    """
    request = http.read(span)
    if request.host is None or request.method is None:
        return None
    host = f"[{request.host}]" if ":" in request.host else request.host
    port = f":{request.port}" if request.port else ""
    query = f"?{request.query}" if request.query else ""
    url = one_line(f"{request.scheme or 'http'}://{host}{port}{request.path or '/'}{query}")
    method = one_line(request.method)
    options = [] if method == "GET" else ["--head"] if method == "HEAD" else ["-X", method]
    return shlex.join(["curl", *options, url])
