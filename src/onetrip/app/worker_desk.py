"""Where applications read, for workers: what a node tells them, and what it answers.

Only the node has accounts, and a connection or two to each database. A worker's question is asked
on at once, together with those of other workers and the node's own (`probe/replication`). See
`app/worker_guide` for the other end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from onetrip.app.worker_guide import MAX_OPEN
from onetrip.app.worker_messages import (
    MAX_MESSAGE,
    NO_PLACES,
    Answer,
    Asked,
    Question,
    ReadPlaces,
    ToWorker,
    encode,
)
from onetrip.errors import Kind, ProtocolError, ReplicationError
from onetrip.model.replication import Position, parse_position
from onetrip.model.topology import RegionId
from onetrip.proxy.consistency import Guide

if TYPE_CHECKING:
    from onetrip.model.catalog import Catalog, EnvironmentId
    from onetrip.net.accept import Spawn

MAX_WITHIN = 10.0
"""Longest time for an answer, whatever a worker says, s: the longest that a project may set."""

GRACE = 0.1
"""Time beyond that in which what is asked may end by itself, s."""


class NodeGuide(Guide, Protocol):
    """A node's guide, which can be told whole; see `app/guidance`."""

    def backends(self) -> list[str]:
        """Return the backends that can be asked."""

    def columns(self) -> list[tuple[EnvironmentId, str, str]]:
        """Return which column tells what is nearest, by environment and backend."""

    def nearest_in(self, column: str) -> dict[RegionId, str]:
        """Return the endpoint that an instance reads, by its region."""


class Asker(Protocol):
    """A worker."""

    index: int

    def send(self, data: bytes) -> None:
        """Send an encoded message; dropped where it is away."""


class GuideDesk:
    """Tells all workers where applications read, and each what it asks.

    Args:
        guide: makes what knows, which is done when a project promises something.
        tell: sends a message to all workers.
    """

    def __init__(
        self,
        guide: Callable[[], NodeGuide] | None,
        tell: Callable[[ToWorker], None],
        spawn: Spawn,
    ) -> None:
        self._make = guide
        self._tell = tell
        self._spawn = spawn
        self._guide: NodeGuide | None = None
        self._is_needed = False
        self._open: dict[int, dict[int, asyncio.Task[None]]] = {}
        self.places = NO_PLACES
        """What workers have been told, whole."""

    def update(self, catalog: Catalog) -> None:
        """Follow another catalog: workers are told as soon as the node itself follows it."""
        promises = any(e.consistency is not None for e in catalog.environments())
        self._is_needed = promises and self._make is not None
        if self._is_needed:
            asyncio.get_running_loop().call_soon(self.publish)

    def publish(self) -> None:
        """Tell the workers what has changed, if anything has."""
        guide = self._known()
        if guide is None or not self._is_needed:
            return
        before, self.places = self.places, _places(guide)
        if self.places == before:
            return
        is_alike = self.places.columns == before.columns
        self._tell(msgspec.structs.replace(self.places, columns=None) if is_alike else self.places)

    def take(self, asker: Asker, question: Question) -> None:
        """Answer a question, unless its worker ends before."""
        guide, waiting = self._known(), self._open.setdefault(asker.index, {})
        if guide is None or len(waiting) >= MAX_OPEN:
            asker.send(encode(_refused(question, "too many questions are open", Kind.OVERLOADED)))
            return
        self._tell_primary(guide, question.backend)
        work = self._answer(asker, question, guide, waiting)
        waiting[question.number] = self._spawn(work, "question")

    def forget(self, index: int) -> None:
        """Drop the questions of a worker that has ended; the next one counts from 1 again."""
        for task in self._open.pop(index, {}).values():
            task.cancel()

    def _known(self) -> NodeGuide | None:
        if self._guide is None and self._make is not None:
            self._guide = self._make()
        return self._guide

    async def _answer(
        self,
        asker: Asker,
        question: Question,
        guide: NodeGuide,
        waiting: dict[int, asyncio.Task[None]],
    ) -> None:
        try:
            async with asyncio.timeout(min(question.within, MAX_WITHIN) + GRACE):
                answer = await _answer(guide, question)
        except TimeoutError:
            answer = _refused(question, "no answer in time", Kind.TIMEOUT)
        except (ReplicationError, ProtocolError) as error:
            answer = _refused(question, str(error), error.kind)
        finally:
            waiting.pop(question.number, None)
        if self._open.get(asker.index) is waiting:
            self._tell_primary(guide, question.backend)
            asker.send(encode(answer))

    def _tell_primary(self, guide: NodeGuide, backend: str) -> None:
        """Have the workers know of another primary now, before the next answer."""
        if guide.primary(backend) != self.places.primaries.get(backend, backend):
            self.publish()


def _places(guide: NodeGuide) -> ReadPlaces:
    columns, backends = guide.columns(), guide.backends()
    homes = {backend: guide.home(backend) for backend in backends}
    return ReadPlaces(
        columns,
        {name: guide.nearest_in(name) for name in sorted({name for _, _, name in columns})},
        {backend: guide.primary(backend) for backend in backends},
        {backend: home for backend, home in homes.items() if home is not None},
    )


async def _answer(guide: NodeGuide, question: Question) -> Answer:
    """Ask what a worker asks.

    Raises:
        ReplicationError: as `Replication`.
        ProtocolError: the position is none.
    """
    backend, place = question.backend, question.place
    replication, position, is_so = guide.replication, None, False
    match question.what:
        case Asked.POSITION:
            position = await replication.position(backend)
        case Asked.SHOWN:
            position = await replication.shown(backend, place)
        case Asked.REACHED:
            needed = _position(question)
            within = min(question.within, MAX_WITHIN)
            is_so = await replication.reached(backend, place, needed, within)
        case Asked.HOLD:
            relays = guide.relays(backend, RegionId(place))
            is_so = relays is not None and await relays.hold(_position(question))
        case Asked.WRITTEN:
            relays = guide.relays(backend, RegionId(place))
            position = await relays.written() if relays is not None else None
    text = None if position is None else str(position)
    return Answer(question.number, text, is_so)


def _position(question: Question) -> Position:
    return parse_position(question.position, MAX_MESSAGE)


def _refused(question: Question, told: str, kind: Kind) -> Answer:
    return Answer(question.number, error=told, kind=kind)
