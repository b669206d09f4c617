"""From a batch to requests, without one member that takes the others with it.

A batch is encoded as one request. Where that is larger than allowed, it is cut into parts before anything is sent;
where the collector refuses it as too large, it is halved and sent again. A member that cannot be encoded, or that is
too large alone, is dropped, counted and named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .._guard import Guard, logger
from .answer import Verdict
from .delivery import Delivery

T = TypeVar("T")

_MOST_REFUSALS = 64
"""So often in a row a collector may call a part too large, before the rest of the batch is given up."""


class Batches(Generic[T]):
    """Sends batches of one signal. `encode` makes the bytes of a request, `name` describes a member of a batch."""

    def __init__(self, delivery: Delivery, encode: Callable[[Sequence[T]], bytes], name: Callable[[T], str]) -> None:
        self.delivery = delivery
        self.encode = encode
        self._name = name
        self._max_bytes = delivery.collector.max_bytes
        self._guard = Guard()
        self._refusals = 0

    def send(self, batch: Sequence[T]) -> int:
        """Encode a batch and deliver it. Returns how many of its members were lost, which has been said then."""
        self._refusals = 0
        try:
            payload = self.encode(batch)
        except Exception:
            good = [item for item in batch if self._encodes(item)]
            return len(batch) - len(good) + (self._parts(good, 1) if good else 0)
        return self._deliver(batch, payload)

    def _deliver(self, batch: Sequence[T], payload: bytes) -> int:
        if len(payload) > self._max_bytes:
            if len(batch) == 1:
                return self._drop(batch[0], len(payload), f"max_export_bytes, {self._max_bytes}, allows")
            return self._parts(batch, -(-len(payload) // self._max_bytes))
        answer = self.delivery.deliver(payload, len(batch))
        if answer.verdict is Verdict.DELIVERED:
            self._refusals = 0
            return answer.rejected
        if answer.verdict is not Verdict.TOO_LARGE:
            return len(batch)
        self._refusals += 1
        if len(batch) == 1:
            return self._drop(batch[0], len(payload), f"{self.delivery.collector.target} takes")
        if self._refusals > _MOST_REFUSALS:
            self.delivery.give_up(len(batch), answer.reason)
            return len(batch)
        return self._parts(batch, 2)

    def _parts(self, batch: Sequence[T], number: int) -> int:
        """Send a batch in so many parts, or one by one where it has fewer members."""
        size = -(-len(batch) // number)
        parts = [batch[begin : begin + size] for begin in range(0, len(batch), size)]
        return sum(self._deliver(part, self.encode(part)) for part in parts)

    def _encodes(self, item: T) -> bool:
        try:
            self.encode([item])
        except Exception:
            self._guard.warn("encode", f"{self._name(item)} cannot be encoded, and is lost; this is said once")
            logger.debug("%s cannot be encoded", self._name(item), exc_info=True)
            return False
        return True

    def _drop(self, item: T, size: int, limit: str) -> int:
        message = f"{self._name(item)} is lost: with {size} bytes it is larger than {limit}"
        self._guard.warn("size", f"{message}; this is said once")
        logger.debug(message)
        return 1
