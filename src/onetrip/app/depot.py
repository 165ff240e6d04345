"""Bundles of files in a store that all nodes reach: for nodes that cannot ask each other.

The node that took a deployment puts its files there; the others see to it now and then, in case
that node is gone. A bundle is named after its content, so what is fetched proves itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from random import Random
from typing import Any, Protocol

from onetrip.cluster.bus import Files
from onetrip.errors import PeerError
from onetrip.observe.logs import Log
from onetrip.timing import Clock

LOOK_INTERVAL = 600.0
"""Seconds between two looks whether everything is there, on average."""

RETRY = 10.0
"""Seconds until a look is repeated in which something failed."""


class Shelf(Protocol):
    """The bundles of a node."""

    def needed_assets(self) -> dict[str, bool]:
        """Return the bundles that deployments need, and whether this node took the deployment."""

    async def packed_assets(self, digest: str) -> bytes | None:
        """Return a bundle as it was uploaded, where it is here."""


class Depot:
    """One node's use of the store.

    Args:
        spawn: runs a task of a name.
    """

    def __init__(
        self,
        files: Files,
        shelf: Shelf,
        *,
        clock: Clock,
        rng: Random,
        log: Log,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._files = files
        self._shelf = shelf
        self._clock = clock
        self._rng = rng
        self._log = log
        self._spawn = spawn
        self._look_at = 0.0
        self._is_only_ours = True  # whether the next look leaves other nodes' bundles to them
        self._is_busy = False

    async def open(self) -> None:
        """Look what is missing."""
        self.look_soon()

    async def tick(self) -> None:
        """Put what is missing there, beside everything else."""
        if not self._is_busy and self._clock.now() >= self._look_at:
            self._is_busy = True
            self._look_at = self._clock.now() + LOOK_INTERVAL * (0.5 + self._rng.random())
            self._spawn(self._fill(), "nats-files")

    def look_soon(self) -> None:
        """Look at the next tick for what this node took."""
        self._look_at, self._is_only_ours = 0.0, True

    async def get(self, digest: str) -> bytes | None:
        """Return a bundle, or None where it is not there.

        Raises:
            PeerError: the store cannot be used.
        """
        return await self._files.get(digest)

    def drop(self, digests: Collection[str]) -> None:
        """Delete bundles that nothing needs any more."""
        if digests:
            self._spawn(self._delete(list(digests)), "nats-files")

    async def _fill(self) -> None:
        is_only_ours, self._is_only_ours = self._is_only_ours, False
        try:
            for digest, is_ours in self._shelf.needed_assets().items():
                if (is_ours or not is_only_ours) and not await self._files.has(digest):
                    data = await self._shelf.packed_assets(digest)
                    if data is not None:
                        await self._files.put(digest, data)
        except PeerError as error:
            self._look_at = min(self._look_at, self._clock.now() + RETRY)
            self._log.debug("cluster.files_not_shared", reason=str(error))
        finally:
            self._is_busy = False

    async def _delete(self, digests: list[str]) -> None:
        try:
            for digest in digests:
                await self._files.delete(digest)
        except PeerError as error:
            self._log.debug("cluster.files_not_shared", reason=str(error))
