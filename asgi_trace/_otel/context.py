"""The current OpenTelemetry context: read it, put another one in its place, put the earlier one back.

The API keeps it in one context variable and reaches it through two calls of its own for each of the three. Where that
variable can be learned, it is used directly; otherwise the API's functions are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token

from opentelemetry import context as _api
from opentelemetry.context import Context

from .api import context_variable

__all__ = ["attach", "get_current", "restore"]

get_current: Callable[[], Context] = _api.get_current
attach: Callable[[Context], Token[Context]] = _api.attach
restore: Callable[[Token[Context]], object] = _api.detach
"""`restore(token)` raises ValueError in another context than the one in which `attach` was called."""

_variable = context_variable()
if _variable is not None:
    get_current, attach, restore = _variable.get, _variable.set, _variable.reset
