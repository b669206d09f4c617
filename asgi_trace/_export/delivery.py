"""Bringing encoded requests to a collector: again within the timeout, with a word when an outage begins and ends."""

from __future__ import annotations

import random
import time

from .._guard import logger
from .answer import Answer, Verdict, line
from .collector import Collector
from .forking import in_child
from .latch import Latch
from .self_metrics import ExporterMetrics
from .sender import Sender, sender_for
from .signals import Signal
from .suppression import suppressed

_LONGEST_BACKOFF = 30.0
_CLOSED = "the exporter was shut down"


class Delivery:
    """Delivers requests of one signal to one collector, one at a time.

    An outage is one ERROR, its end one INFO; nothing that is logged holds a header.
    """

    def __init__(self, collector: Collector, signal: Signal, sender: Sender | None = None) -> None:
        self.collector = collector
        self.signal = signal
        self._sender = sender or sender_for(collector, signal)
        self._hurried = False
        self._closed = False
        self._wake = Latch()
        self._reached = False
        self._failing = False
        self.metrics: ExporterMetrics | None = None
        """What this exporter records of itself, where that is on."""
        self.lost = 0
        """How much the collector rejected, or did not get."""
        in_child(self._renew)

    def deliver(self, payload: bytes, count: int) -> Answer:
        """Send a request that carries `count` things, within the collector's timeout, further attempts included.

        The answer is DELIVERED, TOO_LARGE (and nothing is counted or said), or REFUSED.
        """
        began = time.monotonic()
        if self.metrics is not None:
            self.metrics.begin(count)
        answer = self._attempts(payload, count, began + self.collector.timeout)
        if self.metrics is not None:
            self.metrics.end(count, time.monotonic() - began, answer.attributes)
        if answer.verdict is Verdict.DELIVERED:
            self._delivered(answer)
        elif answer.verdict is not Verdict.TOO_LARGE or self._closed:
            reason = f"{_CLOSED} ({answer.reason})" if self._closed else answer.reason
            answer = Answer(Verdict.REFUSED, reason, attributes=answer.attributes)
            self.give_up(count, reason)
        return answer

    def give_up(self, count: int, reason: str) -> None:
        """Count a request that does not arrive, and say so."""
        self.lost += count
        self._say("%d %s did not reach %s: %s", count, self.signal.things, self.collector.target, reason)

    def hurry(self) -> None:
        """A caller waits: a collector that does not answer now, and has not before, gets no second attempt.

        So a service without a collector, as on a developer's machine, stops and reloads without a delay.
        """
        self._hurried = True
        self._wake.set()

    def relax(self) -> None:
        """No caller waits any more."""
        self._hurried = False

    def close(self) -> None:
        """Give up what is under way, at once, and send nothing any more."""
        self._closed = True
        self._wake.set()
        self._sender.close()

    def _renew(self) -> None:
        self._hurried = False  # a caller that waits does not come along into a forked process
        self._wake = Latch()
        self.lost = 0

    def _attempts(self, payload: bytes, count: int, deadline: float) -> Answer:
        answer = Answer(Verdict.AGAIN, "no answer yet")
        attempt = 0
        while not self._closed:
            answer = self._attempt(payload, count, max(0.01, deadline - time.monotonic()))
            if answer.verdict is not Verdict.AGAIN:
                break
            hurried = self._hurried  # a hurry that begins after this ends the pause
            delay = answer.delay or _backoff(attempt)
            hopeless = self._failing or not self._reached
            if time.monotonic() + delay > deadline or (hurried and hopeless) or self._closed:
                break
            logger.debug("sending %s failed: %s; again in %.1f seconds", self.signal.things, answer.reason, delay)
            self._pause(delay, hurried)
            attempt += 1
        return answer

    def _attempt(self, payload: bytes, count: int, timeout: float) -> Answer:
        try:
            with suppressed():
                answer = self._sender.send(payload, count, timeout)
                if answer.stale and not self._closed:
                    self._sender.reconnect()
        except Exception as exc:  # whatever a library does with what a collector answers
            logger.debug("sending %s failed", self.signal.things, exc_info=True)
            answer = Answer(Verdict.REFUSED, line(repr(exc)), attributes={"error.type": type(exc).__qualname__})
        return answer

    def _pause(self, seconds: float, hurried: bool) -> None:
        self._wake.take(0)
        if self._hurried == hurried and not self._closed:
            self._wake.take(seconds)

    def _delivered(self, answer: Answer) -> None:
        self._reached = True
        if answer.rejected:
            self.lost += answer.rejected
            where, things = self.collector.target, self.signal.things
            self._say("%s rejected %d %s: %s", where, answer.rejected, things, answer.reason)
        elif self._failing:
            self._failing = False
            logger.info("%s reach %s again; %d were lost so far", self.signal.things, self.collector.target, self.lost)

    def _say(self, message: str, *values: object) -> None:
        """Log an ERROR, or only at DEBUG when one has been logged since the last request that arrived whole."""
        if self._failing:
            logger.debug(message, *values)
        else:
            logger.error(message + "; this is said once, until it works again", *values)
        self._failing = True


def _backoff(attempt: int) -> float:
    """1, 2, 4... seconds, more or less, so that not all services of a collector come back at once."""
    return min(2.0 ** min(attempt, 10), _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
