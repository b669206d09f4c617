"""A Django project with a django-ninja API, configured once for the process. It needs Django installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import django  # type: ignore[import-untyped]
from asgiref.sync import sync_to_async
from django.conf import settings  # type: ignore[import-untyped]

from ..support.frameworks import Places

settings.configure(
    ALLOWED_HOSTS=["*"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=["asgi_trace.routes.django.TraceRoutes", "django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    USE_TZ=True,
)
django.setup()

from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]  # noqa: E402
from django.core.exceptions import PermissionDenied, SuspiciousOperation  # type: ignore[import-untyped]  # noqa: E402
from django.http import (  # type: ignore[import-untyped]  # noqa: E402
    Http404,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
)
from django.urls import include, path, re_path  # type: ignore[import-untyped]  # noqa: E402
from django.views.decorators.http import require_GET  # type: ignore[import-untyped]  # noqa: E402

places = Places()


async def item(request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse("x")


def get_only(request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse("x")


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


async def fails_async(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


def raises(request: HttpRequest, kind: str) -> HttpResponse:
    raise {"http404": Http404, "denied": PermissionDenied, "suspicious": SuspiciousOperation}[kind]("not you")


def answer_later(request: HttpRequest) -> HttpResponse:
    return HttpResponse("later", status=503)


async def everywhere(request: HttpRequest) -> StreamingHttpResponse:
    async def stream() -> AsyncIterator[bytes]:
        places.note("stream")
        yield b"x"

    places.note("view")
    await sync_to_async(places.note)("sync_to_async")
    return StreamingHttpResponse(stream())


def everywhere_sync(request: HttpRequest) -> HttpResponse:
    places.note("sync view")
    return HttpResponse("x")


urlpatterns: list[Any] = [
    path("items/<int:item>/", item),
    path("get/<name>", require_GET(get_only)),
    path("shops/<shop>/", include([path("orders/<order>", item), re_path(r"^old/(?P<order>\d+)$", item)])),
    path("fails", fails),
    path("fails/async", fails_async),
    path("raises/<kind>", raises),
    path("everywhere", everywhere),
    path("everywhere/sync", everywhere_sync),
]

try:
    from ninja import NinjaAPI, Router
    from ninja.errors import HttpError
except ImportError:
    NINJA = False
else:
    NINJA = True
    api = NinjaAPI()
    customers = Router()

    @api.get("/orders/{int:order}")
    def order(request: HttpRequest, order: int) -> dict[str, int]:
        return {"order": order}

    @api.get("/fails")
    def operation_fails(request: HttpRequest) -> None:
        raise ValueError("on purpose")

    @api.get("/refuses")
    def operation_refuses(request: HttpRequest) -> None:
        raise HttpError(409, "no")

    @api.get("/handled")
    def operation_handled(request: HttpRequest) -> None:
        raise LookupError("not here")

    @api.get("/expected")
    def operation_expected(request: HttpRequest) -> None:
        raise TimeoutError("too slow")

    @api.exception_handler(TimeoutError)
    def too_slow(request: HttpRequest, exc: Any) -> HttpResponse:
        return api.create_response(request, {}, status=503)

    @api.exception_handler(LookupError)
    def not_here(request: HttpRequest, exc: Any) -> HttpResponse:
        return api.create_response(request, {}, status=404)

    @customers.get("/{name}")
    async def customer(request: HttpRequest, name: str) -> dict[str, str]:
        places.note("ninja operation")
        return {"name": name}

    api.add_router("/customers", customers)
    urlpatterns.append(path("api/", api.urls))

application: Any = get_asgi_application()
