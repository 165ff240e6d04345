"""Brings the node's events to the receivers: one task for each, one attempt at a time.

A message is kept (where there is a store) when it is made, and forgotten when it is delivered, so
after a crash it is sent again rather than lost: at least once, and its id tells a repetition.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from onetrip.errors import ApiError, Kind
from onetrip.model.status import Event
from onetrip.model.topology import RegionId
from onetrip.model.webhook import Delivery, Webhook, WebhookState, WebhookStatus
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock
from onetrip.webhooks.messages import message_of
from onetrip.webhooks.outbox import Fate, Message, Outbox
from onetrip.webhooks.post import Answer, Post
from onetrip.webhooks.signing import fields as signed_fields

MAX_DELIVERIES = 100
"""Attempts remembered of each receiver."""

TEST_EVENT = "webhooks.tested"
"""What a test sends; it happened nowhere else."""

WRITE_TIMEOUT = 2.0
"""Longest wait for the store at the end, s."""

GONE = 410


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a receiver over a restart. Instants are Unix time, s.

    Attributes:
        url: it is kept for; another one under the same name starts anew.
    """

    url: str
    failing_since: float | None = None
    is_disabled: bool = False


class Keeping(Protocol):
    """Where messages outlive the process."""

    async def load(self) -> tuple[dict[str, Kept], list[tuple[str, Message]]]:
        """Return the receivers by name, and messages with their receiver's name, oldest first."""

    async def put(self, name: str, message: Message) -> None:
        """Keep a message, replacing it."""

    async def forget(self, name: str, id: str | None) -> None:
        """Forget a message, or with None all of a receiver."""

    async def put_state(self, name: str, kept: Kept) -> None:
        """Keep how a receiver is."""


@dataclass(slots=True)
class _Receiver:
    """One receiver at work."""

    hook: Webhook
    outbox: Outbox
    deliveries: deque[Delivery] = field(default_factory=lambda: deque(maxlen=MAX_DELIVERIES))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[Any] | None = None


class Courier:
    """Tells receivers about events of this node.

    Args:
        region: this node's; part of each message and of its id.
        keeping: None keeps nothing.
        tell: makes an event, of a name, a subject and a detail.
    """

    def __init__(
        self,
        region: RegionId,
        post: Post,
        keeping: Keeping | None,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], object],
    ) -> None:
        self._region = region
        self._post = post
        self._keeping = keeping
        self._clock = clock
        self._rng = rng
        self._metrics = metrics.drains
        self._log = log
        self._tell = tell
        self._tasks = Tasks(self._task_failed)
        self._writes = Tasks(self._task_failed)
        self._receivers: dict[str, _Receiver] = {}

    async def open(self, hooks: Sequence[Webhook]) -> None:
        """Take up what was kept, and begin."""
        states, messages = await self._keeping.load() if self._keeping is not None else ({}, [])
        self.apply(hooks)
        for name, kept in states.items():
            found = self._receivers.get(name)
            if found is not None and found.hook.url == kept.url:
                found.outbox.failing_since = kept.failing_since
                found.outbox.is_disabled = kept.is_disabled
        for name, message in messages:
            found = self._receivers.get(name)
            if found is None or not found.outbox.add(message):
                self._forget(name, message.id)
        for receiver in self._receivers.values():
            self._note_pending(receiver)
            receiver.news.set()

    def apply(self, hooks: Sequence[Webhook]) -> None:
        """Use other receivers; what waits for those that stay goes on waiting."""
        old, self._receivers = self._receivers, {}
        for hook in hooks:
            found = old.pop(hook.name, None)
            if found is None or found.hook.url != hook.url:
                self._end(found)
                pending = dict(found.outbox.pending) if found is not None else {}
                found = _Receiver(hook, Outbox(self._rng, pending))
            found.hook = hook
            self._receivers[hook.name] = found
            if found.task is None:
                found.task = self._tasks.spawn(self._run(found), f"webhook-{hook.name}")
            self._note_pending(found)
        for name, gone in old.items():
            self._end(gone)
            self._forget(name, None)
            self._metrics.webhook_pending.remove(name)

    async def close(self) -> None:
        """End every attempt; what was not delivered stays kept."""
        await self._tasks.cancel(WRITE_TIMEOUT)
        for found in self._receivers.values():
            found.task = None
        await self._writes.finish(WRITE_TIMEOUT)
        await self._post.close()

    def take(self, event: Event) -> None:
        """Queue an event for every receiver that wants it; never blocks."""
        for found in self._receivers.values():
            if found.hook.wants(event.name):
                self._queue(found, event)

    def statuses(self) -> list[WebhookStatus]:
        """Return every receiver and its queue."""
        return [_status(found) for found in self._receivers.values()]

    def deliveries(self, name: str) -> list[Delivery]:
        """Return the latest attempts at a receiver, newest first.

        Raises:
            ApiError: there is none of this name.
        """
        return list(reversed(self._find(name).deliveries))

    async def test(self, name: str) -> Delivery:
        """Send a message now, once; one that arrives enables a receiver that was disabled.

        Raises:
            ApiError: there is no receiver of this name.
        """
        found = self._find(name)
        at = self._clock.wall()
        event = Event(at, TEST_EVENT, name, "sent by hand", int(at * 1000))
        message = message_of(event, self._region, f"test-{self._rng.getrandbits(64):016x}")
        _, delivery = await self._attempt(found, message)
        if delivery.is_delivered:
            was_disabled = found.outbox.is_disabled
            found.outbox.succeeded(message, self._clock.wall())
            found.news.set()
            if was_disabled:
                self._tell("webhooks.endpoint_enabled", name, "a test was delivered")
            self._keep_state(found)
        return delivery

    # --- one receiver -----------------------------------------------------------------------

    async def _run(self, found: _Receiver) -> None:
        while True:
            found.news.clear()
            message = found.outbox.due(self._clock.wall())
            if message is None:
                await self._wait(found)
                continue
            answer, delivery = await self._attempt(found, message)
            if delivery.is_delivered:
                was_failing = found.outbox.failing_since is not None
                found.outbox.succeeded(message, self._clock.wall())
                self._forget(found.hook.name, message.id)
                if was_failing:
                    self._keep_state(found)
            else:
                self._fail(found, message, answer, delivery)
            self._note_pending(found)

    async def _wait(self, found: _Receiver) -> None:
        """Wait for news, or until the next attempt is due."""
        next_at = found.outbox.next_at()
        news = asyncio.ensure_future(found.news.wait())
        waits: set[asyncio.Future[Any]] = {news}
        if next_at is not None:
            length = max(0.0, next_at - self._clock.wall())
            waits.add(asyncio.ensure_future(self._clock.sleep(length)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _attempt(self, found: _Receiver, message: Message) -> tuple[Answer, Delivery]:
        at, began = self._clock.wall(), self._clock.now()
        fields = signed_fields(found.hook.keys, message.id, int(at), message.body)
        answer = await self._post(found.hook.url, fields, message.body)
        error = answer.error
        if not error and not 200 <= answer.status < 300:
            error = f"answered {answer.status}"
        delivery = Delivery(
            message.id,
            message.event,
            at,
            message.attempts + 1,
            answer.status,
            error,
            self._clock.now() - began,
        )
        found.deliveries.append(delivery)
        self._count(found, "failed" if error else "delivered")
        return answer, delivery

    def _fail(self, found: _Receiver, message: Message, answer: Answer, delivery: Delivery) -> None:
        is_first, name = found.outbox.failing_since is None, found.hook.name
        fate = found.outbox.failed(
            message,
            self._clock.wall(),
            is_refused=400 <= answer.status < 500 and answer.status not in (408, 425, 429),
            is_gone=answer.status == GONE,
            retry_after=answer.retry_after,
        )
        if is_first:
            self._log.warning("webhooks.delivery_failed", webhook=name, reason=delivery.error)
        if fate is Fate.WAITS:
            self._keep(name, message)
        elif fate is Fate.EXPIRED:
            self._count(found, "expired")
            self._forget(name, message.id)
        else:
            self._forget(name, None)
            self._log.error("webhooks.endpoint_disabled", webhook=name, reason=delivery.error)
            self._tell("webhooks.endpoint_disabled", name, delivery.error)
        if is_first or fate is Fate.DISABLED:
            self._keep_state(found)

    # --- messages ---------------------------------------------------------------------------

    def _queue(self, found: _Receiver, event: Event) -> None:
        message = message_of(event, self._region, f"{self._region}-{event.id}")
        if not found.outbox.add(message):
            self._count(found, "dropped")
            return
        self._keep(found.hook.name, message)
        self._note_pending(found)
        found.news.set()

    def _find(self, name: str) -> _Receiver:
        found = self._receivers.get(name)
        if found is None:
            raise ApiError(f"no webhook {name!r} is configured", kind=Kind.NOT_FOUND)
        return found

    def _end(self, found: _Receiver | None) -> None:
        if found is not None and found.task is not None:
            found.task.cancel()
            found.task = None

    def _count(self, found: _Receiver, outcome: str) -> None:
        self._metrics.webhook_deliveries.labels(found.hook.name, outcome).inc()

    def _note_pending(self, found: _Receiver) -> None:
        self._metrics.webhook_pending.labels(found.hook.name).set(len(found.outbox.pending))

    def _keep(self, name: str, message: Message) -> None:
        if self._keeping is not None:
            self._write(self._keeping.put(name, message))

    def _forget(self, name: str, id: str | None) -> None:
        if self._keeping is not None:
            self._write(self._keeping.forget(name, id))

    def _keep_state(self, found: _Receiver) -> None:
        if self._keeping is not None:
            outbox, hook = found.outbox, found.hook
            kept = Kept(hook.url, outbox.failing_since, outbox.is_disabled)
            self._write(self._keeping.put_state(hook.name, kept))

    def _write(self, work: Coroutine[Any, Any, None]) -> None:
        self._writes.spawn(work, "webhooks-store")

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log.error("webhooks.task_failed", cause=error, task=name, error=type(error).__name__)


def _status(found: _Receiver) -> WebhookStatus:
    outbox, hook = found.outbox, found.hook
    state = WebhookState.FAILING if outbox.failing_since is not None else WebhookState.OK
    return WebhookStatus(
        name=hook.name,
        url=hook.origin,
        events=hook.events,
        state=WebhookState.DISABLED if outbox.is_disabled else state,
        pending=len(outbox.pending),
        failing_since=outbox.failing_since,
        next_at=outbox.next_at(),
        last=found.deliveries[-1] if found.deliveries else None,
    )
