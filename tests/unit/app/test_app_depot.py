"""Files of deployments in a store: put there by who took them, and by the others later."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random

from onetrip.app.depot import LOOK_INTERVAL, RETRY, Depot
from onetrip.errors import PeerError
from onetrip.observe.logs import silent_log
from support.clock import VirtualClock


class FakeFiles:
    """A dictionary that can be out of reach."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_down = False

    async def put(self, name: str, data: bytes) -> None:
        self._check()
        self.files[name] = data

    async def has(self, name: str) -> bool:
        self._check()
        return name in self.files

    async def get(self, name: str) -> bytes | None:
        self._check()
        return self.files.get(name)

    async def delete(self, name: str) -> None:
        self._check()
        self.files.pop(name, None)

    def _check(self) -> None:
        if self.is_down:
            raise PeerError("out of reach")


class Rig:
    """A depot of a node that took one deployment and knows of another one's."""

    def __init__(self) -> None:
        self.files, self.clock = FakeFiles(), VirtualClock()
        self.needed = {"ours": True, "theirs": False, "lost": True}
        self._tasks: list[asyncio.Task[None]] = []
        self.depot = Depot(
            self.files,
            self,
            clock=self.clock,
            rng=Random(7),
            log=silent_log(),
            spawn=self._spawn,
        )

    def needed_assets(self) -> dict[str, bool]:
        return self.needed

    async def packed_assets(self, digest: str) -> bytes | None:
        return None if digest == "lost" else digest.encode()

    async def tick(self) -> None:
        await self.depot.tick()
        await asyncio.gather(*self._tasks)

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))


async def test_a_node_puts_there_what_it_took_and_later_what_others_did_not() -> None:
    rig = Rig()
    await rig.depot.open()
    await rig.tick()
    assert rig.files.files == {"ours": b"ours"}
    rig.clock.step(2 * LOOK_INTERVAL)
    await rig.tick()
    assert rig.files.files == {"ours": b"ours", "theirs": b"theirs"}
    assert await rig.depot.get("theirs") == b"theirs"
    assert await rig.depot.get("lost") is None


async def test_what_is_deployed_is_put_there_at_the_next_tick() -> None:
    rig = Rig()
    await rig.depot.open()
    await rig.tick()
    rig.needed["new"] = True
    await rig.tick()
    assert "new" not in rig.files.files
    rig.depot.look_soon()
    await rig.tick()
    assert rig.files.files["new"] == b"new"


async def test_a_store_out_of_reach_is_tried_again() -> None:
    rig = Rig()
    await rig.depot.open()
    rig.files.is_down = True
    await rig.tick()
    rig.files.is_down = False
    await rig.tick()
    assert rig.files.files == {}
    rig.clock.step(RETRY + 1)
    await rig.tick()
    assert rig.files.files["ours"] == b"ours"


async def test_what_nothing_needs_any_more_is_deleted() -> None:
    rig = Rig()
    rig.files.files = {"old": b"", "ours": b""}
    rig.depot.drop(["old", "gone"])
    await asyncio.gather(*rig._tasks)
    assert rig.files.files == {"ours": b""}
