"""The current OpenTelemetry context: what it is, put one in its place, put the earlier one back.

The API keeps it in one context variable and reaches it through two calls of its own for each of the three. That
variable is learned here from the token that `attach` returns, and then asked directly. Where OTEL_PYTHON_CONTEXT names
another implementation, the API's functions are used as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import Token
from typing import Any

from opentelemetry.context import Context
from opentelemetry.context import attach as _attach
from opentelemetry.context import detach as _detach
from opentelemetry.context import get_current as _get_current

__all__ = ["attach", "get_current", "restore"]


def _functions() -> tuple[
    Callable[[], Context], Callable[[Context], Token[Context]], Callable[[Token[Context]], object]
]:
    if not os.environ.get("OTEL_PYTHON_CONTEXT"):
        token: Any = _attach(_get_current())
        _detach(token)
        if isinstance(token, Token):
            return token.var.get, token.var.set, token.var.reset
    return _get_current, _attach, _detach


get_current, attach, restore = _functions()
"""`restore(token)` raises ValueError in a context other than the one in which `attach` was called."""
