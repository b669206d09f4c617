"""Aliases for ASGI and OpenTelemetry values. Everything may import this; this imports nothing of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]
"""An application: each framework spells the types of its three arguments in its own way."""

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""ASGI header lines in wire order; a name may stand on several lines."""

AttributeValue: TypeAlias = str | int | float | bool | Sequence[str]
Attributes: TypeAlias = dict[str, AttributeValue]
