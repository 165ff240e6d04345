"""Loopback pieces of the lab for integration tests, each closed when its block ends."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from onetrip.model.topology import Endpoint
from onetrip_lab.delay import Links
from onetrip_lab.embedded import EmbeddedDatabase, seeded_engine
from onetrip_lab.relay import Relay, precise_loop
from onetrip_lab.topology import RttMatrix, parse_matrix

T = TypeVar("T")

NEAR_RTT = 0.040
"""RTT between the two regions of `two_regions`, s."""

_networks = itertools.count()


def run_precisely(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the loop the lab itself uses; asyncio's own timers count whole ms."""
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(coro)


def two_regions(rtt: float = NEAR_RTT) -> RttMatrix:
    """Return regions `a` and `b`, `rtt` s apart."""
    ms = rtt * 1000
    return parse_matrix(f"id,a,b\na,0,{ms}\nb,{ms},0", "two")


def region_by_host(address: str) -> str | None:
    """Region `a` is 127.0.0.2 and region `b` 127.0.0.3; others are strangers."""
    return {"127.0.0.2": "a", "127.0.0.3": "b"}.get(address)


@asynccontextmanager
async def relay_to(
    near: Endpoint, region: str, matrix: RttMatrix | None = None
) -> AsyncIterator[tuple[Relay, Endpoint]]:
    """Relay a free port to `near`, which lies in `region`."""
    relay = Relay(Links(matrix or two_regions()), region_by_host)
    try:
        yield relay, await relay.listen(Endpoint("127.0.0.1", 0), near, region)
    finally:
        await relay.close()


@asynccontextmanager
async def embedded_database() -> AsyncIterator[Endpoint]:
    """Serve the shop's data from this process on a free port."""
    engine = seeded_engine()
    database = EmbeddedDatabase(engine)
    try:
        yield await database.listen(Endpoint("127.0.0.1", 0))
    finally:
        await database.close()
        engine.close()


def own_address() -> str:
    """Return a loopback address that other test processes are unlikely to use now."""
    number = next(_networks)
    return f"127.{100 + os.getpid() % 100}.{1 + os.getpid() // 100 % 250}.{1 + number % 250}"
