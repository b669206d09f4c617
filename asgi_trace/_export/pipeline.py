"""One exporter and what stands before it, as whatever stops a process must know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .delivery import Delivery
from .losses import Losses


@dataclass(frozen=True)
class Pipeline:
    """The way of one signal to one exporter.

    `delivery` is None for an exporter that is not ours; `give_up` counts what is left when the time to stop is over.
    """

    losses: Losses
    delivery: Delivery | None
    give_up: Callable[[], None]

    def hurry(self) -> None:
        """A caller waits."""
        if self.delivery is not None:
            self.delivery.hurry()

    def relax(self) -> None:
        """No caller waits any more."""
        if self.delivery is not None:
            self.delivery.relax()

    def close(self) -> None:
        """Cut off what is under way."""
        if self.delivery is not None:
            self.delivery.close()
