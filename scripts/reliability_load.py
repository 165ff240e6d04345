"""Requests through the nodes that survive a fault, and what was declared meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from support.regions import HOME, REGIONS, Regions, near

WORKERS = 12
"""Requests at once through each node."""

PAUSE = 0.2
"""Time between a worker's requests, s."""

ROTA = (
    ("GET", "/orders"),
    ("GET", "/item"),
    ("PUT", "/item"),
    ("GET", "/page"),
    ("POST", "/orders"),
)
"""What a worker sends, in turn."""

IDEMPOTENT = ("GET", "PUT")


@dataclass
class Load:
    """Requests of clients at some edges, until it is stopped.

    Attributes:
        sent: requests by method.
        failed: those that had no answer below 500, by method.
        reasons: of the failures.
        slowest: longest time of an answer, s.
        places: region where the last chatty request of each edge ran.
    """

    regions: Regions
    edges: list[str]
    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    places: dict[str, str] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _is_over: bool = False

    def start(self) -> None:
        """Begin to send."""
        for edge, number in itertools.product(self.edges, range(WORKERS)):
            self._tasks.append(asyncio.create_task(self._work(edge, number)))

    async def stop(self) -> None:
        """Send no more, and wait for the last answers."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def is_placed(self) -> bool:
        """Tell whether chatty requests run beside the database."""
        return {self.places.get(edge) for edge in self.edges} == {HOME}

    @property
    def failed_idempotent(self) -> int:
        """How many requests failed that may be sent twice."""
        return sum(self.failed[method] for method in IDEMPOTENT)

    @property
    def failed_others(self) -> int:
        """How many other requests failed."""
        return self.failed.total() - self.failed_idempotent

    async def _work(self, edge: str, number: int) -> None:
        for method, path in itertools.islice(itertools.cycle(ROTA), number, None):
            if self._is_over:
                return
            await self._send(edge, method, path)
            await asyncio.sleep(PAUSE)

    async def _send(self, edge: str, method: str, path: str) -> None:
        url, body = f"http://{near(edge)}:8080{path}", None if method == "GET" else b"x" * 100
        self.sent[method] += 1
        began_at = time.monotonic()
        try:
            async with self.regions.session.request(
                method, url, data=body, headers={"Host": "shop.test"}
            ) as reply:
                text = await reply.text()
                if (method, path) == ("GET", "/orders") and reply.status == 200:
                    self.places[edge] = reply.headers["onetrip-placement"].rpartition("-")[2]
                reason = f"{reply.status} {text[:200]}" if reply.status >= 500 else ""
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = type(error).__name__
        took = time.monotonic() - began_at
        self.slowest = max(self.slowest, took)
        if reason:
            self.failed[method] += 1
            self.reasons[f"{edge} {method} {path} after {took:.1f} s: {reason}"] += 1


class Declared:
    """What was declared and acknowledged, and whether it is still there."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._numbers = itertools.count(1)
        self._domains: set[str] = set()
        self._deployments: set[str] = set()
        self._control = 0.0

    async def deploy(self, edge: str) -> None:
        """Make a deployment that is not promoted."""
        number = next(self._numbers)
        order = {
            "compatibility_date": "2026-11-25",
            "promote": False,
            "commit": f"{number:07d}",
            "instances": {r: [f"10.77.0.{2 + i}:9001"] for i, r in enumerate(REGIONS)},
        }
        status, body = await self._call(edge, "POST", "/v1/projects/shop/deployments", order)
        if status in (200, 201):
            self._deployments.add(body["id"])

    async def declare(self, edge: str) -> list[int]:
        """Declare a domain and another control group; return the statuses."""
        number = next(self._numbers)
        host, control = f"d{number}.test", round(0.0001 * number, 4)
        order = {"placement": {"control": control}}
        domain, _ = await self._call(edge, "POST", "/v1/projects/shop/domains", {"host": host})
        policy, _ = await self._call(edge, "PATCH", "/v1/projects/shop", order)
        if domain in (200, 201):
            self._domains.add(host)
        if policy == 200:
            self._control = control
        return [domain, policy]

    async def lost(self) -> list[str]:
        """Return what is missing, and where."""
        missing: list[str] = []
        for region in REGIONS:
            status, body = await self._call(region, "GET", "/v1/projects/shop/domains")
            found = {row["host"] for row in body["domains"]} if status == 200 else set()
            missing += [f"{host} in {region}" for host in sorted(self._domains - found)]
            status, body = await self._call(region, "GET", "/v1/projects/shop/deployments")
            found = {row["id"] for row in body["deployments"]} if status == 200 else set()
            missing += [f"{id} in {region}" for id in sorted(self._deployments - found)]
            status, body = await self._call(region, "GET", "/v1/projects/shop")
            if status != 200 or body["placement"]["control"] != self._control:
                missing.append(f"control of {self._control} in {region}")
        return missing

    async def _call(self, edge: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await self._regions.call(edge, method, path, body)
