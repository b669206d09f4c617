"""OTLP over HTTP: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, in protobuf or JSON, with gzip or without.

Faults are answered as OTLP asks: an HTTP status, and a `google.rpc.Status` in the encoding of the request. Other
content types are refused, which leaves a foreign web page no request that its browser would send without asking first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..receive.intake import Intake
from ..receive.signals import (
    MAX_BODY,
    SIGNALS,
    Signal,
    TooLarge,
    Unreadable,
    from_json,
    from_protobuf,
    gunzip,
    to_data,
)
from .hosts import ingest_allows

_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_INVALID_ARGUMENT, _PERMISSION_DENIED, _RESOURCE_EXHAUSTED, _UNIMPLEMENTED = 3, 7, 8, 12


def ingest_app(intake: Intake, *, host: str, allow_origin: Sequence[str] = ()) -> Starlette:
    """The application. `host` is the address that it listens on, `allow_origin` the web origins that may send."""
    middleware = []
    if allow_origin:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(allow_origin),
                allow_methods=["POST"],
                allow_headers=["content-type", "content-encoding", "traceparent"],
            )
        )
    routes = [Route(f"/v1/{signal.name}", _Endpoint(intake, signal, host, allow_origin)) for signal in SIGNALS]
    return Starlette(routes=routes, middleware=middleware)


class _Endpoint:
    """One signal's address, as an ASGI application."""

    def __init__(self, intake: Intake, signal: Signal, host: str, origins: Sequence[str]) -> None:
        self._intake, self._signal, self._host, self._origins = intake, signal, host, origins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            answer = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        headers = request.headers
        if not ingest_allows(headers.get("host", ""), self._host):
            return self._refuse(request, 403, _PERMISSION_DENIED, "this Host is not allowed here")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and "*" not in self._origins:
            return self._refuse(request, 403, _PERMISSION_DENIED, f"start with --allow-origin {origin} to allow it")
        if request.method != "POST":
            return self._refuse(request, 405, _UNIMPLEMENTED, "send exports with POST")
        if _content_type(request) not in (_PROTOBUF, _JSON):
            reason = f"the content type is {_PROTOBUF} or {_JSON}, not {_content_type(request)!r}"
            return self._refuse(request, 415, _INVALID_ARGUMENT, reason)
        if headers.get("content-encoding", "identity").lower() not in ("gzip", "identity", ""):
            return self._refuse(request, 415, _INVALID_ARGUMENT, "the content encoding is gzip or none")
        try:
            body = await _read(request)
            content = await run_in_threadpool(self._take, request, body)
        except TooLarge as exc:
            return self._refuse(request, 413, _RESOURCE_EXHAUSTED, str(exc))
        except Unreadable as exc:
            return self._refuse(request, 400, _INVALID_ARGUMENT, str(exc))
        return Response(content, media_type=_content_type(request))

    def _take(self, request: Request, body: bytes) -> bytes:
        """Decode, store and encode the answer, in a worker thread."""
        if request.headers.get("content-encoding", "").lower() == "gzip":
            body = gunzip(body)
        if _content_type(request) == _JSON:
            return _json(self._intake.take(self._signal, from_json(self._signal, body)))
        answer: bytes = self._intake.take(self._signal, from_protobuf(self._signal, body)).SerializeToString()
        return answer

    def _refuse(self, request: Request, status_code: int, code: int, reason: str) -> Response:
        kind = f"http {self._signal.name} {status_code}"
        self._intake.say_once(kind, f"an export to {request.scope['path']} was refused ({status_code}): {reason}")
        status = Status(code=code, message=reason)
        headers = {"allow": "POST"} if status_code == 405 else None
        if _content_type(request) == _JSON:
            return Response(_json(status), status_code, headers, media_type=_JSON)
        return Response(status.SerializeToString(), status_code, headers, media_type=_PROTOBUF)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read(request: Request) -> bytes:
    """The body, as it was sent. Raises `TooLarge` as soon as it is."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > MAX_BODY:
        raise TooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge
    return bytes(body)


def _json(message: Any) -> bytes:
    return json.dumps(to_data(message)).encode()
