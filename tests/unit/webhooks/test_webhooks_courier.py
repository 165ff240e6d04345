"""The courier over a receiver and a store that are no more than lists."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random

import pytest

from onetrip.errors import ApiError
from onetrip.model.status import Event
from onetrip.model.topology import RegionId
from onetrip.model.webhook import Webhook, WebhookState
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.webhooks.courier import Courier, Kept
from onetrip.webhooks.outbox import Message
from onetrip.webhooks.post import Answer
from support.clock import VirtualClock

HOOK = Webhook("ops", "https://hooks.example/x", ("place.*", "app.*"), (b"k" * 24,))
OK = Answer(204)
DOWN = Answer(0, "cannot connect: refused")


class Receiver:
    """Answers as told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer = OK
        self.got: list[tuple[str, str, dict[str, object]]] = []
        self.is_closed = False

    async def __call__(self, url: str, fields: Mapping[str, str], body: bytes) -> Answer:
        self.got.append((url, fields["webhook-id"], json.loads(body)))
        return self.answer

    async def close(self) -> None:
        self.is_closed = True


class Shelf:
    """Keeps messages in dictionaries."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], Message] = {}
        self.states: dict[str, Kept] = {}

    async def load(self) -> tuple[dict[str, Kept], list[tuple[str, Message]]]:
        return dict(self.states), [(name, m) for (name, _), m in self.messages.items()]

    async def put(self, name: str, message: Message) -> None:
        self.messages[name, message.id] = message

    async def forget(self, name: str, id: str | None) -> None:
        for key in list(self.messages):
            if key[0] == name and id in (None, key[1]):
                del self.messages[key]

    async def put_state(self, name: str, kept: Kept) -> None:
        self.states[name] = kept


class World:
    def __init__(self, shelf: Shelf | None = None) -> None:
        self.clock = VirtualClock()
        self.receiver, self.shelf = Receiver(), shelf or Shelf()
        self.metrics = Metrics()
        self.told: list[tuple[str, str]] = []
        self.courier = self.make()

    def make(self) -> Courier:
        return Courier(
            RegionId("den"),
            self.receiver,
            self.shelf,
            clock=self.clock,
            rng=Random(3),
            metrics=self.metrics,
            log=silent_log(),
            tell=lambda name, subject, detail: self.told.append((name, subject)),
        )

    def event(self, name: str = "place.moved", id: int = 7) -> Event:
        return Event(self.clock.wall(), name, "shop/production GET /", "to bom", id)

    def count(self, outcome: str) -> float:
        labels = {"webhook": "ops", "outcome": outcome}
        name = "onetrip_webhooks_deliveries_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


Scene = Callable[[World], Awaitable[None]]


async def test_an_event_is_told_to_those_who_want_it() -> None:
    world = World()
    other = Webhook("chat", "https://chat.example/y", ("probe.*",), (b"c" * 24,))
    await world.courier.open([HOOK, other])
    world.courier.take(world.event())
    await settle()
    (url, id, body), *rest = world.receiver.got
    assert rest == []
    assert (url, id) == (HOOK.url, "den-7")
    assert body["type"] == "place.moved"
    data = {"region": "den", "subject": "shop/production GET /", "detail": "to bom"}
    assert body["data"] == data
    assert str(body["timestamp"]).endswith("Z")
    assert world.shelf.messages == {}
    assert world.count("delivered") == 1
    ops, chat = world.courier.statuses()
    assert (ops.state, ops.pending, ops.url) == (WebhookState.OK, 0, "https://hooks.example")
    assert chat.last is None
    await world.courier.close()
    assert world.receiver.is_closed


async def test_what_was_not_delivered_is_told_by_the_next_run() -> None:
    world = World()
    await world.courier.open([HOOK])
    world.receiver.answer = DOWN
    world.courier.take(world.event())
    await settle()
    assert world.courier.statuses()[0].state is WebhookState.FAILING
    await world.courier.close()
    assert list(world.shelf.messages) == [("ops", "den-7")]
    again = World(world.shelf)
    await again.courier.open([HOOK])
    await again.clock.advance(10.0)
    await settle()
    assert [id for _, id, _ in again.receiver.got] == ["den-7"]
    assert again.courier.deliveries("ops")[0].attempt == 2
    assert world.shelf.messages == {}
    assert again.courier.statuses()[0].state is WebhookState.OK
    await again.courier.close()


async def test_a_receiver_that_is_gone_is_disabled_until_a_test_arrives() -> None:
    world = World()
    await world.courier.open([HOOK])
    world.receiver.answer = Answer(410)
    world.courier.take(world.event())
    await settle()
    assert world.told == [("webhooks.endpoint_disabled", "ops")]
    assert world.courier.statuses()[0].state is WebhookState.DISABLED
    world.courier.take(world.event(id=8))
    await settle()
    assert len(world.receiver.got) == 1
    assert world.count("dropped") == 1
    await world.courier.close()
    # It is remembered, for this URL.
    again = World(world.shelf)
    await again.courier.open([HOOK])
    assert again.courier.statuses()[0].state is WebhookState.DISABLED
    again.receiver.answer = Answer(500)
    assert not (await again.courier.test("ops")).is_delivered
    assert again.courier.statuses()[0].state is WebhookState.DISABLED
    again.receiver.answer = OK
    assert (await again.courier.test("ops")).is_delivered
    assert again.told == [("webhooks.endpoint_enabled", "ops")]
    again.courier.take(again.event(id=9))
    await settle()
    assert again.receiver.got[-1][1] == "den-9"
    await again.courier.close()
    moved = Webhook("ops", "https://elsewhere.example/", ("*",), HOOK.keys)
    third = World(again.shelf)
    await third.courier.open([moved])
    assert third.courier.statuses()[0].state is WebhookState.OK
    await third.courier.close()


async def test_a_reload_keeps_what_waits_and_forgets_who_left() -> None:
    world = World()
    await world.courier.open([HOOK])
    world.receiver.answer = DOWN
    world.courier.take(world.event())
    await settle()
    moved = Webhook("ops", "https://elsewhere.example/z", ("*",), (b"n" * 24,))
    world.receiver.answer = OK
    world.courier.apply([moved])
    await world.clock.advance(10.0)
    await settle()
    assert world.receiver.got[-1][:2] == (moved.url, "den-7")
    world.courier.apply([])
    with pytest.raises(ApiError):
        world.courier.deliveries("ops")
    world.courier.take(world.event(id=8))
    await settle()
    assert world.shelf.messages == {}
    await world.courier.close()
