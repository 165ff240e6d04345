"""The connections that a relay passes on untouched, each to one place."""

from __future__ import annotations

from collections.abc import Callable

from onetrip.errors import Kind, OnetripError
from onetrip.model.topology import Endpoint
from onetrip.net.dial import Dial
from onetrip.relay.link import Link
from onetrip.timing import Clock
from onetrip.wire.flips import FlipCounter

QUIET = 0.5
"""Silence, s, after which a connection that waits for no answer is closed while draining. Longer
than a statement of a transaction that is under way lets wait for the next one."""


class Links:
    """Every link that is open.

    Args:
        dial: opens connections to the database, for at most `timeout` s each.
        refuse: called with the reason and its kind when there is no connection to the database.

    Attributes:
        opened: links since the start.
    """

    def __init__(
        self, dial: Dial, clock: Clock, refuse: Callable[[str, Kind], None], *, timeout: float
    ) -> None:
        self.opened = 0
        self._dial = dial
        self._clock = clock
        self._refuse = refuse
        self._timeout = timeout
        self._open: set[Link] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, counter: FlipCounter) -> Link:
        """Return a link whose client is to be accepted, and which is then to be connected."""
        link = Link(counter, self._clock, self._open.discard)
        self._open.add(link)
        self.opened += 1
        return link

    async def connect(self, link: Link, to: Endpoint) -> None:
        """Connect a link's other side, or end it."""
        try:
            await self._dial(lambda: link.server, to.host, to.port, timeout=self._timeout)
        except OnetripError as error:
            self._refuse(str(error), error.kind)
            link.abort()
        else:
            link.join()

    def close_silent(self, now: float) -> None:
        """Close each whose client waits for no answer, and where nothing passed for `QUIET`."""
        for link in list(self._open):
            if not link.counter.is_waiting and now - link.active_at >= QUIET:
                link.close()

    def close_idle(self, oldest: float) -> None:
        """Close each where nothing passed since a monotonic time, s."""
        for link in list(self._open):
            if link.active_at < oldest:
                link.close()

    def abort(self) -> None:
        """Reset all."""
        for link in list(self._open):
            link.abort()
