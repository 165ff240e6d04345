"""How many clients are in at once; one more is told so, counted, and now and then logged."""

from __future__ import annotations

from onetrip.errors import Kind, OnetripError
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.replies import error_reply
from onetrip.timing import Clock

QUIET = 60.0
"""Least time between two log events about a full house, s."""


class Headcount:
    """Admits connections up to a limit.

    Args:
        limit: connections at once.
    """

    def __init__(self, limit: int, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._limit = limit
        self._clock = clock
        self._refused = metrics.refused_connections
        self._log = log
        self._told_at = -QUIET

    def admits(self, connections: int) -> bool:
        """Tell whether one more may come in beside `connections`."""
        if connections < self._limit:
            return True
        self._refused.labels("clients", "overload").inc()
        now = self._clock.now()
        if now - self._told_at >= QUIET:
            self._told_at = now
            self._log.warning("proxy.connections_full", limit=self._limit)
        return False

    def reply(self) -> bytes:
        """Return what a client is told that did not come in."""
        error = OnetripError(f"more than {self._limit} connections", kind=Kind.OVERLOADED)
        return error_reply(error, b"", keep_alive=False)
