"""The guides of several workers and the desk of their node, with links that take time between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import cast

from onetrip.app.worker_desk import GuideDesk, NodeGuide
from onetrip.app.worker_guide import WorkerGuide
from onetrip.app.worker_link import Link
from onetrip.app.worker_messages import (
    Answer,
    Question,
    ReadPlaces,
    ToNode,
    ToWorker,
    decode_to_node,
    decode_to_worker,
    encode,
)
from onetrip.model.catalog import Catalog

TRIP = 0.0002
"""Mean time of a message on its way, s."""


class Pipe:
    """One direction of a link: what is sent arrives later, in order."""

    def __init__(self, rng: Random, deliver: Callable[[bytes], None]) -> None:
        self._rng = rng
        self._deliver = deliver
        self._arrives_at = 0.0

    def send(self, data: bytes) -> None:
        """Send an encoded message."""
        loop = asyncio.get_running_loop()
        at = loop.time() + self._rng.expovariate(1 / TRIP)
        self._arrives_at = max(self._arrives_at + 1e-7, at)
        loop.call_at(self._arrives_at, self._deliver, data)


class LinkedWorker:
    """A worker's guide, with its end of the link.

    Attributes:
        sent: questions that were sent.
    """

    unsent = 0

    def __init__(self, index: int, rng: Random, take: Callable[[LinkedWorker, bytes], None]):
        self.index = index
        self.is_open = True
        self.sent: list[Question] = []
        self._up = Pipe(rng, lambda data: take(self, data))
        self._down = Pipe(rng, self._take)
        self.guide = WorkerGuide(cast(Link[ToWorker], _Sender(self)))

    def send(self, data: bytes) -> None:
        """See `Asker`: what the node sends."""
        self._down.send(data)

    def ask(self, message: ToNode) -> None:
        """Send to the node."""
        assert isinstance(message, Question)
        self.sent.append(message)
        self._up.send(encode(message))

    def lose(self) -> None:
        """Lose the link, as when the node dies."""
        self.is_open = False
        self.guide.close()

    def _take(self, data: bytes) -> None:
        message = decode_to_worker(data)
        assert isinstance(message, ReadPlaces | Answer)
        if self.is_open:
            self.guide.take(message)


class LinkedWorkers:
    """See the module; needs a running event loop.

    Args:
        guide: what the node knows.
    """

    def __init__(self, guide: NodeGuide, catalog: Catalog, rng: Random, count: int = 2) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.desk = GuideDesk(lambda: guide, self._tell, self._spawn)
        self.workers = [LinkedWorker(index, rng, self._take) for index in range(count)]
        self.guides = [worker.guide for worker in self.workers]
        for each in self.guides:
            each.update(catalog)
        self.desk.update(catalog)

    def _tell(self, message: ToWorker) -> None:
        for worker in self.workers:
            worker.send(encode(message))

    def _take(self, worker: LinkedWorker, data: bytes) -> None:
        message = decode_to_node(data)
        assert isinstance(message, Question)
        self.desk.take(worker, message)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class _Sender:
    """What a guide uses of its link."""

    def __init__(self, worker: LinkedWorker) -> None:
        self._worker = worker

    @property
    def is_open(self) -> bool:
        return self._worker.is_open

    @property
    def unsent(self) -> int:
        return self._worker.unsent

    def send(self, message: ToNode) -> None:
        self._worker.ask(message)
