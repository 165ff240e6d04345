"""What a worker tells its node about finished exchanges: in batches, bounded, never waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from onetrip.app.worker_link import Link
from onetrip.app.worker_messages import Lines, Seen, ToWorker
from onetrip.model.measure import Observation
from onetrip.observe.metrics import Metrics

BATCH_TIME = 0.05
"""Longest time something waits for more, s; far below a round of scoring."""

BATCH = 500
"""Exchanges after which a batch leaves at once."""

MAX_UNSENT = 4 * 1024 * 1024
"""Bytes that the node has not taken yet, above which exchanges are dropped: some 15,000 of them.
It then is busy with something worse."""


class ObservationOutbox:
    """Collects observations and access lines until they leave together.

    Attributes:
        lines, decisions: take the records for the access log, and for the residency log.
    """

    def __init__(self, link: Link[ToWorker], metrics: Metrics) -> None:
        self._link = link
        self._dropped = metrics.observations_dropped
        self._observations: list[Observation] = []
        self._timer: asyncio.TimerHandle | None = None
        self.lines, self.decisions = LineBuffer(self), LineBuffer(self)

    @property
    def is_full(self) -> bool:
        """Tell whether the node does not keep up."""
        return self._link.unsent > MAX_UNSENT

    def take(self, observation: Observation) -> None:
        """Take one finished exchange."""
        self._observations.append(observation)
        self.schedule()
        if len(self._observations) >= BATCH:
            self.flush()

    def schedule(self) -> None:
        """Flush before long."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_TIME, self.flush)

    def flush(self) -> None:
        """Send what is waiting, or drop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seen, self._observations = self._observations, []
        lines, decisions = self.lines.take(), self.decisions.take()
        if self.is_full:
            self._dropped.inc(len(seen))
            self.lines.dropped += len(lines)
            self.decisions.dropped += len(decisions)
            return
        if seen:
            self._link.send(Seen(seen))
        if lines or decisions:
            self._link.send(Lines(lines, decisions))


class LineBuffer:
    """Implements `observe.logs.AccessSink`: the node writes all lines, so each stays whole."""

    def __init__(self, outbox: ObservationOutbox) -> None:
        self.dropped = 0
        self._outbox = outbox
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def write(self, record: dict[str, Any]) -> None:
        """See `AccessSink`."""
        self._lines.append(self._encoder.encode(record))
        self._outbox.schedule()
        if len(self._lines) >= BATCH:
            self._outbox.flush()

    def take(self) -> list[bytes]:
        """Return the lines that wait, and forget them."""
        lines, self._lines = self._lines, []
        return lines
