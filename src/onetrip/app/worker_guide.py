"""Where applications read, as a worker knows it: what its node told, or tells when it is asked.

A worker asks no database. What must be quick is in a table that the node sends when it changed.
What has to be asked is a question over the link, which the node asks on: after it came, so that the
answer is as new as one that this process had got itself. To ask may find another primary: then the
node sends the table before the answer, so that whoever asked sees both.

Without an answer (none in time, too many questions, the node gone) nothing is known, which is what
a database that does not answer means, too: the primary is read, or the position stays unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onetrip.app.worker_messages import MAX_MESSAGE, NO_PLACES, Answer, Asked, Question, ReadPlaces
from onetrip.app.worker_outbox import MAX_UNSENT
from onetrip.errors import Kind, ProtocolError, ReplicationError
from onetrip.model.replication import EndpointState, Position, parse_position

if TYPE_CHECKING:
    from onetrip.app.worker_link import Link
    from onetrip.app.worker_messages import ToWorker
    from onetrip.model.catalog import Catalog, Environment, EnvironmentId
    from onetrip.model.topology import RegionId

MAX_OPEN = 4096
"""Questions that wait for an answer at once: 4,000 requests a second at a database that is silent
for a second. More would only wait for each other."""

TIMEOUT = 1.5
"""Longest wait for an answer that has no other bound, s: databases and relays have a second, and
the rest is for the way to the node and back."""


class WorkerGuide:
    """Implements `proxy.consistency.Guide`, and `Replication`, in a worker.

    Args:
        link: to the node.
    """

    def __init__(self, link: Link[ToWorker]) -> None:
        self._link = link
        self._places = NO_PLACES
        self._columns: dict[tuple[EnvironmentId, str], str] = {}
        self._relays: dict[tuple[str, RegionId], WorkerRelays] = {}
        self._open: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0

    def update(self, catalog: Catalog) -> None:
        """Know the relays of another catalog from now on."""
        self._relays = {
            (name, region): WorkerRelays(self, name, region)
            for name, backend in catalog.backends.items()
            if backend.replication is not None
            for region, _ in backend.replication.relays
        }

    def take(self, message: ReadPlaces | Answer) -> None:
        """Take what the node tells; an answer that nobody waits for any more is dropped."""
        if isinstance(message, ReadPlaces):
            self._places = message
            if message.columns is not None:
                self._columns = {(id, backend): name for id, backend, name in message.columns}
            return
        waiting = self._open.pop(message.number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def close(self) -> None:
        """Answer all questions with an error: the node is gone, and so is the link."""
        waiting, self._open = self._open, {}
        for each in waiting.values():
            if not each.done():
                each.set_exception(_GoneError())

    # --- what must be quick -----------------------------------------------------------------

    @property
    def replication(self) -> WorkerGuide:
        """See `Guide`."""
        return self

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        """See `Guide`."""
        column = self._columns.get((environment.id, backend), "")
        found = self._places.nearest.get(column, {}).get(region)
        return self.primary(backend) if found is None else found

    def primary(self, backend: str) -> str:
        """See `Guide` and `Replication`."""
        return self._places.primaries.get(backend, backend)

    def home(self, backend: str) -> RegionId | None:
        """See `Guide`."""
        return self._places.homes.get(backend)

    def relays(self, backend: str, region: RegionId) -> WorkerRelays | None:
        """See `Guide`; from the catalog, so that no request is sent to relays untold."""
        return self._relays.get((backend, region))

    def states(self, backend: str) -> Mapping[str, EndpointState]:
        """See `Replication`; only the node watches."""
        return {}

    # --- what asks --------------------------------------------------------------------------

    async def position(self, backend: str) -> Position:
        """See `Replication`."""
        return _known(await self.ask(Asked.POSITION, backend, "", TIMEOUT))

    async def shown(self, backend: str, endpoint: str) -> Position:
        """See `Replication`."""
        return _known(await self.ask(Asked.SHOWN, backend, endpoint, TIMEOUT))

    async def reached(self, backend: str, endpoint: str, position: Position, within: float) -> bool:
        """See `Replication`."""
        try:
            return (await self.ask(Asked.REACHED, backend, endpoint, within, position)).is_so
        except ReplicationError:
            return False

    async def ask(
        self, what: Asked, backend: str, place: str, within: float, position: Position | None = None
    ) -> Answer:
        """Ask the node.

        Raises:
            ReplicationError: what the node was told itself, or there is no answer.
        """
        if not self._link.is_open:
            raise _GoneError
        if len(self._open) >= MAX_OPEN or self._link.unsent > MAX_UNSENT:
            raise ReplicationError("too many questions are open", kind=Kind.OVERLOADED)
        self._number = number = self._number + 1
        text = str(position) if position is not None else ""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        try:
            self._link.send(Question(number, what, backend, place, text, within))
            async with asyncio.timeout(within):
                found = await answer
        except TimeoutError:
            told = f"the node does not answer within {within:g} s"
            raise ReplicationError(told, kind=Kind.TIMEOUT) from None
        finally:
            self._open.pop(number, None)
        if found.error is not None:
            raise ReplicationError(found.error, kind=found.kind)
        return found


class WorkerRelays:
    """The relays of a backend in a region; see `proxy.consistency.Relays`."""

    def __init__(self, guide: WorkerGuide, backend: str, region: RegionId) -> None:
        self._guide = guide
        self._backend = backend
        self._region = region

    async def hold(self, position: Position) -> bool:
        """See `Relays`."""
        try:
            return (await self._ask(Asked.HOLD, position)).is_so
        except ReplicationError:
            return False

    async def written(self) -> Position | None:
        """See `Relays`."""
        try:
            found = await self._ask(Asked.WRITTEN)
            return None if found.position is None else _known(found)
        except ReplicationError:
            return None

    async def _ask(self, what: Asked, position: Position | None = None) -> Answer:
        return await self._guide.ask(what, self._backend, self._region, TIMEOUT, position)


class _GoneError(ReplicationError):
    """The node cannot be asked any more."""

    def __init__(self) -> None:
        super().__init__("the node is gone", kind=Kind.RESET)


def _known(answer: Answer) -> Position:
    """Return the position of an answer, exactly: however long it is, no client has sent it."""
    try:
        if answer.position is not None:
            return parse_position(answer.position, MAX_MESSAGE)
    except ProtocolError as error:
        raise ReplicationError(str(error)) from error
    raise ReplicationError("the node tells no position")
