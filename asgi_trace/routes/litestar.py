"""Litestar: the exceptions that it answers itself. Its routes need nothing: they are in the scope.

app = Litestar(route_handlers=[...], after_exception=[report])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar.exceptions import HTTPException

from .._server.current import report_exception

if TYPE_CHECKING:
    from litestar.types import Scope

__all__ = ["report"]


async def report(exc: Exception, scope: Scope) -> None:
    """Record an exception on the request's span when Litestar answers it with a 5xx, or closes a websocket for it."""
    if not isinstance(exc, HTTPException) or exc.status_code >= 500:
        report_exception(exc)
