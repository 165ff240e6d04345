"""What is known of each server of a database, and who may serve: decisions without I/O.

*Position*: how far the write-ahead log is written (primary) or replayed (replica), bytes. *Floor*:
the position that a replica must have replayed to serve reads; it never falls.

A position is believed until the server's connections break: one that crashed and came back may
have replayed less than before. What a new connection says therefore replaces what was known.

The primary is the server that is not in recovery and has the newest timeline, which every promotion
makes; a former primary that comes back, or never noticed, is not taken for one again. When the
primary changes the floor becomes the new one's position: what the old one wrote and the new one
never got is gone, and cannot be waited for. It begins as the position of the first primary seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onetrip.model.replication import Role, log_end

RTT_WEIGHT = 1 / 8
"""Share of a new sample in the smoothed RTT (RFC 6298 section 2)."""


@dataclass(slots=True)
class Standing:
    """What is known of one server.

    Attributes:
        rtt: smoothed round-trip time, s; 0 before it was measured.
        position: as of the last look, bytes.
        checked_at: of the last look, monotonic, s.
        timeline: of a primary.
    """

    name: str
    role: Role = Role.UNKNOWN
    rtt: float = 0.0
    position: int = 0
    checked_at: float = float("-inf")
    timeline: int = 0


class Standings:
    """All servers of a database, in the order of the configuration, and the floor.

    Args:
        names: the declared primary first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.by_name = {name: Standing(name) for name in names}
        self.primary: str | None = None
        self._last: str | None = None
        self._timeline = 0
        self.floor = 0
        self.written = 0
        """Highest position of a transaction that was committed through this relay."""

    def observe(
        self,
        name: str,
        *,
        in_recovery: bool,
        position: int,
        timeline: int,
        at: float,
        rtt: float | None = None,
    ) -> bool:
        """Take what a server told of itself; return whether the primary is another one now.

        Args:
            timeline: of a primary.
            rtt: how long the question took, or None for the first one of a new connection.
        """
        one = self.by_name[name]
        if one.role is Role.UNKNOWN and name == self._last and not in_recovery:
            # It came back. What it lost (commits that it did not wait for) cannot be waited for.
            self.floor = min(self.floor, log_end(position))
        one.role = Role.REPLICA if in_recovery else Role.PRIMARY
        one.position = position if rtt is None else max(position, one.position)
        one.checked_at, one.timeline = at, timeline
        if rtt is not None:
            one.rtt = rtt if not one.rtt else one.rtt + RTT_WEIGHT * (rtt - one.rtt)
        return self._elect()

    def doubt(self, name: str) -> None:
        """One of a server's connections broke: its position is to be asked again."""
        self.by_name[name].position = 0

    def lost(self, name: str) -> None:
        """A server does not answer: it may come back with less, or as something else."""
        one = self.by_name[name]
        one.role, one.position = Role.UNKNOWN, 0
        self._elect()

    def raise_floor(self, position: int) -> None:
        """Let reads go only to replicas that have replayed `position`."""
        self.floor = max(self.floor, position)

    def wrote(self, position: int) -> None:
        """A transaction that may have written was committed; `position` is at or behind its end."""
        position = log_end(position)
        self.written = max(self.written, position)
        self.raise_floor(position)

    @property
    def replicas(self) -> list[Standing]:
        """Servers that replay."""
        return [one for one in self.by_name.values() if one.role is Role.REPLICA]

    def nearest_fresh(self) -> str | None:
        """Return the replica with the least RTT among those that reached the floor."""
        fresh = [one for one in self.replicas if one.position >= self.floor]
        return min(fresh, key=lambda one: one.rtt).name if fresh else None

    def _elect(self) -> bool:
        before = self.primary
        current = self.by_name.get(before or "")
        claims = [
            one
            for one in self.by_name.values()
            if one.role is Role.PRIMARY and one.timeline >= self._timeline
        ]
        if current is not None and current.role is Role.UNKNOWN and not claims:
            return False
        best = max(claims, key=lambda one: (one.timeline, one is current), default=None)
        self.primary = best.name if best else None
        if best is not None:
            position = log_end(best.position)
            if self._last is None:
                # What was answered before this relay was started again is in there.
                self.raise_floor(position)
            elif self._last != best.name:
                self.floor = self.written = position
            self._last, self._timeline = best.name, best.timeline
        return self.primary != before
