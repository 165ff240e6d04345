"""The cluster by way of a store that all nodes reach, beside the pull of `cluster/sync`.

`Bus` is what is asked of the store; `cluster/jetstream` is one over NATS. `BusLink` keeps the
connection: it lets the parts of the exchange work (`cluster/shared_reports`: measurements and signs
of life, `cluster/shared_rows`: what was declared), and waits after a failure before it tries again.
Whatever is missed meanwhile is caught up with by the parts when they are opened again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from onetrip.errors import PeerError
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the store is tried again after a failure: doubled each time, up to the second."""


@dataclass(frozen=True, slots=True)
class Change:
    """The newest value under a key; None where it was deleted. Revisions of a bucket grow."""

    key: str
    value: bytes | None
    revision: int


OnChange = Callable[[Change | None], None]
"""Told of every value that there is, then None, then of every change; never raises."""


class Bucket(Protocol):
    """A key-value store; every method raises `PeerError` when it cannot be done."""

    async def put(self, key: str, value: bytes) -> None:
        """Write one value."""

    async def swap(self, key: str, value: bytes, revision: int) -> bool:
        """Write one value unless there is a newer one than `revision` (0: any); tell whether."""

    async def delete(self, key: str, revision: int) -> None:
        """Delete a value unless there is a newer one than `revision`."""

    async def get(self, key: str) -> Change | None:
        """Return what is under a key, or None where there never was anything."""

    async def watch(self, pattern: str, on_change: OnChange) -> None:
        """Tell of what is there and of changes, until the connection ends."""


class Files(Protocol):
    """A store of files by name; every method raises `PeerError` when it cannot be done."""

    async def put(self, name: str, data: bytes) -> None:
        """Write a file."""

    async def has(self, name: str) -> bool:
        """Tell whether there is such a file."""

    async def get(self, name: str) -> bytes | None:
        """Return a file, or None where there is none."""

    async def delete(self, name: str) -> None:
        """Delete a file, where there is one."""


class Calls(Protocol):
    """Questions from node to node; both methods raise `PeerError` when it cannot be done."""

    async def serve(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer what is asked of this region, until the connection ends."""

    async def ask(self, region: RegionId, question: bytes) -> bytes:
        """Return the answer of the node of a region."""


class Bus(Protocol):
    """The connection to a store."""

    async def connect(self) -> None:
        """Connect; called again after a failure.

        Raises:
            PeerError: it cannot be done.
        """

    async def close(self) -> None:
        """Disconnect; never raises."""

    def traffic(self) -> tuple[int, int]:
        """Return the bytes received and sent since the start, in messages."""


class Part(Protocol):
    """Something that is exchanged; both methods raise `PeerError` when the store fails them."""

    async def open(self) -> None:
        """Begin, or begin again after a loss: find out what the others wrote meanwhile."""

    async def tick(self) -> None:
        """Read and write what is due."""


class BusLink:
    """The connection of one node to the store.

    Args:
        prefix: names what is shared, in metrics.
        parts: what is exchanged, in this order.
        tell: keeps an event: name, subject, detail.

    Attributes:
        problem: why nothing is exchanged now; "" while it is, and before it was first tried.
    """

    def __init__(
        self,
        region: RegionId,
        bus: Bus,
        prefix: str,
        parts: Sequence[Part],
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], None],
    ) -> None:
        self._region = region
        self._bus = bus
        self._parts = parts
        self._clock = clock
        self._rng = rng
        self._volume = metrics.volume
        self._counted = (0, 0)
        self._connected = metrics.cluster.nats_connected.labels(prefix)
        self._log = log
        self._tell = tell
        self._is_open = False
        self._pause, self._retry_at = FIRST_PAUSE, 0.0
        self.problem = ""

    @property
    def is_open(self) -> bool:
        """Tell whether the store can be used, as far as is known."""
        return self._is_open

    async def exchange(self) -> None:
        """Let every part work; after a failure, wait before the next."""
        if not self._is_open and self._clock.now() < self._retry_at:
            return
        try:
            if not self._is_open:
                await self._open()
            for part in self._parts:
                await part.tick()
        except PeerError as error:
            await self._lose(error)
            return
        except Exception:
            await self.close()  # all begins anew; who runs us tells of it
            raise
        finally:
            self._count()
        self._pause = FIRST_PAUSE
        self._connected.set(1)
        if self.problem:
            self.problem = ""
            self._log.info("cluster.nats_found")
            self._tell("cluster.nats_found", self._region, "the cluster is shared over NATS again")

    async def hurry(self, part: Part) -> None:
        """Let one part work at once, where the store can be used."""
        if self._is_open:
            try:
                await part.tick()
            except PeerError as error:
                await self._lose(error)

    async def close(self) -> None:
        """Disconnect."""
        self._is_open = False
        self._connected.set(0)
        await self._bus.close()

    def _count(self) -> None:
        before, self._counted = self._counted, self._bus.traffic()
        self._volume.received.inc(self._counted[0] - before[0])
        self._volume.sent.inc(self._counted[1] - before[1])

    async def _open(self) -> None:
        await self._bus.connect()
        for part in self._parts:
            await part.open()
        self._is_open = True

    async def _lose(self, error: PeerError) -> None:
        was_known = bool(self.problem)
        self.problem = str(error)
        await self.close()
        # Nodes that lost one server together do not come back to it together.
        self._retry_at = self._clock.now() + self._pause * (0.5 + self._rng.random())
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        if not was_known:
            self._log.warning("cluster.nats_lost", reason=str(error))
            self._tell("cluster.nats_lost", self._region, str(error))
