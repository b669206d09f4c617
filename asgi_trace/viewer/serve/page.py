"""The page and the API: addresses, and which renderer answers them. Nothing is computed here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ..analysis.filters import BadFilter, Filters
from ..analysis.summary import from_histograms, from_spans
from ..catalogue import Catalogue
from ..live import losses
from ..render import api
from ..render.compare_page import compare_page
from ..render.html import Page, policy, render
from ..render.list_page import list_page
from ..render.map_page import map_page
from ..render.otlp_json import trace_as_otlp
from ..render.routes_page import routes_page
from ..render.trace_page import View, panel_fragment, rows_fragment, trace_page
from ..render.wording import Colours

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_STATIC = {
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "favicon.svg": "image/svg+xml",
}
_LOOK_EVERY, _SILENCE_AT_MOST = 0.4, 15.0


class PageApp:
    """The application. `endpoints` are lines that tell where traces can be sent."""

    def __init__(self, catalogue: Catalogue, endpoints: tuple[str, ...] = ()) -> None:
        self._catalogue = catalogue
        self._store = catalogue.store
        self._endpoints = endpoints
        self._colours = Colours()
        self.closing: bool = False
        pages: dict[str, Callable[[Request], Response]] = {
            "/": self._list,
            "/routes": self._routes,
            "/map": self._map,
            "/compare": self._compare,
            "/trace/{trace_id}": self._trace,
            "/trace/{trace_id}/rows": self._rows,
            "/trace/{trace_id}/panel": self._panel,
            "/static/{name}": self._static,
            "/favicon.ico": self._favicon,
            "/api/traces": self._api_traces,
            "/api/traces/{trace_id}": self._api_trace,
            "/api/routes": self._api_routes,
            "/api/services": self._api_services,
        }
        routes = [Route(path, endpoint) for path, endpoint in pages.items()]
        handlers: Any = {HTTPException: _error, BadFilter: _bad_filter}
        self.app: Starlette = Starlette(routes=[*routes, Route("/events", self._events)], exception_handlers=handlers)

    def close(self) -> None:
        """End the event streams, so that the server can stop at once."""
        self.closing = True

    def _remarks(self) -> list[str]:
        return losses(self._store.forgotten())

    def _list(self, request: Request) -> Response:
        filters = Filters.parse(request.query_params)
        page = list_page(
            self._catalogue.find(filters),
            filters,
            self._colours,
            services=self._catalogue.services(),
            routes=self._catalogue.routes(),
            stray_errors=[log for log in self._store.stray_logs() if log.is_error],
            remarks=self._remarks(),
            endpoints=self._endpoints,
        )
        return HTMLResponse(page)

    def _trace(self, request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        trace_id, dot, kind = trace_id.partition(".")
        trace, timeline, row = self._found(trace_id)
        if dot and kind == "json":
            return _download(api.encode(trace_as_otlp(trace)), "application/json", f"trace-{row.trace_id}.json")
        if dot and kind == "html":
            saved = render(Page([timeline], title="asgi-trace")).encode("utf-8", "replace")
            answer = _download(saved, "text/html; charset=utf-8", f"trace-{row.trace_id}.html")
            answer.headers["content-security-policy"] = policy()
            return answer
        if dot:
            raise HTTPException(404)
        good_one = self._catalogue.last_good_one_like(row) if row.failed else None
        view = View.parse(row.trace_id, request.query_params)
        return HTMLResponse(trace_page(timeline, row, view, self._colours, good_one=good_one, remarks=self._remarks()))

    def _rows(self, request: Request) -> Response:
        _, timeline, row = self._found(request.path_params["trace_id"])
        return HTMLResponse(rows_fragment(timeline, View.parse(row.trace_id, request.query_params), self._colours))

    def _panel(self, request: Request) -> Response:
        _, timeline, row = self._found(request.path_params["trace_id"])
        panel = panel_fragment(timeline, View.parse(row.trace_id, request.query_params), self._colours)
        if panel is None:
            raise HTTPException(404, "this trace has no such span")
        return HTMLResponse(panel)

    def _routes(self, request: Request) -> Response:
        spans, metrics = from_spans(self._store.routes()), from_histograms(self._store.histograms())
        return HTMLResponse(routes_page(spans, metrics, self._colours, remarks=self._remarks()))

    def _map(self, request: Request) -> Response:
        return HTMLResponse(map_page(self._catalogue.edges(), self._colours, remarks=self._remarks()))

    def _compare(self, request: Request) -> Response:
        a, b = (self._found(request.query_params.get(name, ""))[1:] for name in ("a", "b"))
        return HTMLResponse(compare_page(a, b, self._colours, remarks=self._remarks()))

    def _found(self, trace_id: str) -> Any:
        """The trace of this id. Raises 404."""
        trace_id = trace_id.lower()
        found = self._catalogue.trace(trace_id) if _TRACE_ID.fullmatch(trace_id) else None
        if found is None:
            raise HTTPException(404, "there is no trace with this id here: not received, or forgotten")
        return found

    def _api_traces(self, request: Request) -> Response:
        found = self._catalogue.find(Filters.parse(request.query_params))
        return _json({"traces": [api.list_row(row) for row in found.rows]})

    def _api_trace(self, request: Request) -> Response:
        _, timeline, row = self._found(request.path_params["trace_id"])
        return _json(api.whole_trace(row, timeline))

    def _api_routes(self, request: Request) -> Response:
        return _json({"routes": api.route_rows(from_spans(self._store.routes()))})

    def _api_services(self, request: Request) -> Response:
        return _json({"services": self._catalogue.services()})

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404)
        return Response(_file(name), media_type=_STATIC[name])

    def _favicon(self, request: Request) -> Response:
        return Response(_file("favicon.svg"), media_type=_STATIC["favicon.svg"])

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._changes(request), media_type="text/event-stream")

    async def _changes(self, request: Request) -> AsyncIterator[str]:
        """A line whenever the store has changed, and at times without a change so that a lost page is noticed."""
        told, quiet = -1, 0.0
        yield "retry: 1000\n\n"
        while not self.closing and not await request.is_disconnected():
            version = self._store.version
            if version != told:
                told, quiet = version, 0.0
                yield f"event: change\ndata: {version}\n\n"
            elif quiet >= _SILENCE_AT_MOST:
                quiet = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(_LOOK_EVERY)
            quiet += _LOOK_EVERY


def _file(name: str) -> bytes:
    return files("asgi_trace.viewer").joinpath("static").joinpath(name).read_bytes()


def _json(data: Any, status_code: int = 200) -> Response:
    return Response(api.encode(data), status_code, media_type="application/json")


def _download(content: bytes, media_type: str, name: str) -> Response:
    return Response(content, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})


async def _error(request: Request, exc: HTTPException) -> Response:
    if request.scope["path"].startswith("/api/"):
        return await run_in_threadpool(_json, {"error": exc.detail}, exc.status_code)
    return PlainTextResponse(f"{exc.detail}\n", exc.status_code)


async def _bad_filter(request: Request, exc: BadFilter) -> Response:
    return await _error(request, HTTPException(400, str(exc)))
