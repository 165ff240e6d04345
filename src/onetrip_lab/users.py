"""Synthetic users: a few in every region, who browse the shop over keep-alive connections.

Each waits for a response, thinks for a moment, and asks again (a closed loop), so slow routes get
fewer requests and nothing piles up. They connect from an address of their region to the node of
their region, as the nearest one.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import aiohttp

from onetrip.model.topology import Endpoint
from onetrip.timing import Clock
from onetrip_lab.mix import Record, Records, draw

HOST = "shop.localhost"

THINK_TIME = 0.15
"""Mean pause between two requests of one user, s: with 8 users in each of 3 regions about 100
requests/s, which two cores serve with time to spare."""

REQUEST_TIMEOUT = 20.0
"""Bound on one request, s; the slowest healthy one takes 11 trips of 229 ms."""

PLACEMENT_HEADER = "onetrip-placement"


class Users:
    """All users of the world.

    Args:
        per_region: users in each region.
        records: where they write down what they saw.
        seed: of their choices.
    """

    def __init__(self, per_region: int, records: Records, clock: Clock, *, seed: int = 7) -> None:
        self.records = records
        self._per_region = per_region
        self._clock = clock
        self._seed = seed
        self._sessions: list[aiohttp.ClientSession] = []
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, region: str, source_address: str, node: Endpoint) -> None:
        """Let a region's users come in; they stay until `leave`."""
        connector = aiohttp.TCPConnector(
            limit=self._per_region,
            local_addr=(source_address, 0),
            keepalive_timeout=120,
            force_close=False,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
            headers={"Host": HOST, "User-Agent": "onetrip-lab"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._sessions.append(session)
        for number in range(self._per_region):
            rng = Random(f"{self._seed}/{region}/{number}")
            task = asyncio.create_task(self._browse(session, region, f"http://{node}", rng))
            self._tasks.append(task)

    async def leave(self) -> None:
        """Send everybody away; requests under way are dropped and not recorded."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        for session in self._sessions:
            await session.close()
        self._tasks.clear()
        self._sessions.clear()

    async def _browse(
        self, session: aiohttp.ClientSession, region: str, base: str, rng: Random
    ) -> None:
        # Users do not all arrive in the same millisecond.
        await self._clock.sleep(rng.random() * THINK_TIME)
        while True:
            route, path = draw(rng)
            started_at = self._clock.now()
            status, placement = await _ask(session, route.method, base + path)
            self.records.add(
                Record(
                    started_at,
                    region,
                    route.name,
                    self._clock.now() - started_at,
                    status,
                    placement,
                )
            )
            await self._clock.sleep(min(rng.expovariate(1 / THINK_TIME), 4 * THINK_TIME))


async def _ask(session: aiohttp.ClientSession, method: str, url: str) -> tuple[int, str]:
    """Return the status and the placement header; 0 when no complete response came."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with session.request(method, url, allow_redirects=False) as response:
            await response.read()
            return response.status, response.headers.get(PLACEMENT_HEADER, "")
    return 0, ""
