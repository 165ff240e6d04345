"""What a node answers the peers that pull its reports, and when.

A peer says which report it has, and how long it will wait. It is answered at once when something
was declared here, or works no more; else when its time is up, with whatever else is news by then.
So a change is everywhere within a trip, and a quiet cluster says little. One report is made for all
who wait; where making one takes long, they are made less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from onetrip.cluster.delta import ReportLog
from onetrip.cluster.messages import Report, encode_report
from onetrip.timing import Clock

MAX_HOLD = 30.0
"""Longest time a peer may wait, s."""

MAX_HELD = 4096
"""Peers that wait at once; further ones are answered."""

MAKING_SHARE = 0.05
"""Share of the time that may go into making reports: 10,000 busy projects take a while."""

SOON = 0.02
"""Seconds that something declared waits for more of it: a script may make many changes."""


class Known(NamedTuple):
    """What a peer says about itself when it asks.

    Attributes:
        boot, seq: the report that it has, 0 for none.
        hold: how long it waits, s.
    """

    boot: float
    seq: int
    hold: float

    def __str__(self) -> str:
        return f"{struct.pack('>d', self.boot).hex()}.{self.seq}.{round(self.hold * 1e3)}"

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Known:
        """Read it again; raises `ValueError` for anything else."""
        boot, seq, hold = parts
        if not (len(boot) == 16 and seq.isdecimal() and hold.isdecimal() and len(seq + hold) < 32):
            raise ValueError(f"{parts} says nothing about a report")
        return cls(struct.unpack(">d", bytes.fromhex(boot))[0], int(seq), int(hold) / 1e3)


class Telling:
    """Makes and keeps this node's reports.

    Args:
        report: makes the report of this moment.
        interval: least time between two reports that nobody asked for, s.
    """

    def __init__(self, report: Callable[[], Report], clock: Clock, interval: float) -> None:
        self._report = report
        self._clock = clock
        self._interval = self._pause = interval
        self._cost = 0.0
        self._made_at = -float("inf")
        self._log = ReportLog()
        self._whole = b""
        self._whole_at = -float("inf")
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._is_closed = False

    def whole(self) -> bytes:
        """Return a whole report, for a peer of a version that knows no others."""
        now = self._clock.now()
        if now - self._whole_at > self._interval / 2:
            self._whole, self._whole_at = encode_report(self._report()), now
        return self._whole

    async def since(self, known: Known) -> bytes:
        """Return what is new since the report that a peer has, once there is or its time is up."""
        boot, seq, hold = known
        ends_at = self._clock.now() + min(hold, MAX_HOLD)
        self._held += 1
        try:
            while True:
                self._look()
                left = ends_at - self._clock.now()
                is_news = not self._log.has(boot, seq) or self._log.urgent_seq > seq
                if is_news or left <= 0 or self._held > MAX_HELD or self._is_closed:
                    return self._log.encoded(boot, seq)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, self._pause)):
                        await self._news.wait()
        finally:
            self._held -= 1

    def look(self) -> ReportLog:
        """Return what this node has told, with a report of this moment unless one is as good."""
        self._look()
        return self._log

    def wake(self) -> None:
        """Tell soon: something was declared at this node."""
        if self._timer is None and not self._is_closed:
            soon = SOON + self._cost / MAKING_SHARE
            self._timer = asyncio.get_running_loop().call_later(soon, self._tell)

    def close(self) -> None:
        """Answer whoever waits, and let nobody wait any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()

    def _tell(self) -> None:
        self._timer = None
        self._make(is_urgent=True)

    def _look(self) -> None:
        if self._clock.now() - self._made_at >= self._pause:
            self._make()

    def _make(self, *, is_urgent: bool = False) -> None:
        before = self._made_at = self._clock.now()
        self._log.note(self._report(), before, is_urgent=is_urgent)
        self._cost = self._clock.now() - before
        self._pause = max(self._interval, self._cost / MAKING_SHARE)
        if self._log.urgent_seq == self._log.seq:
            self._news.set()
            self._news = asyncio.Event()
