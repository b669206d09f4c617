"""Span attributes that are built when a sampler looks at them, for spans that most likely are not recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .._types import Attributes, AttributeValue


class LazyAttributes(Mapping[str, AttributeValue]):
    """What `build(*arguments)` returns, called at the first look and never again."""

    __slots__ = ("_arguments", "_build", "_built")

    def __init__(self, build: Callable[..., Attributes], *arguments: Any) -> None:
        self._build = build
        self._arguments = arguments
        self._built: Attributes | None = None

    def _attributes(self) -> Attributes:
        if self._built is None:
            self._built = self._build(*self._arguments)
        return self._built

    def __getitem__(self, key: str) -> AttributeValue:
        return self._attributes()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes())

    def __len__(self) -> int:
        return len(self._attributes())

    # What a sampler may do with the dict that it gets otherwise.

    def __or__(self, other: Mapping[str, AttributeValue]) -> Attributes:
        return {**self._attributes(), **other}

    def copy(self) -> Attributes:
        """A dict of the same attributes."""
        return dict(self._attributes())
