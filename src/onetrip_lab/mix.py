"""What the synthetic users ask for, and what they record. Pure; chance comes in.

A user's next request is drawn from a mix of the shop's routes. Records are kept per region and
route, so that phases of the demo can be compared route by route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from statistics import median

from onetrip_lab import seed

MAX_RECORDS = 50_000
"""Records kept; at the demo's 100 requests/s more than 8 minutes. Later ones only count."""


@dataclass(frozen=True, slots=True)
class ShopRoute:
    """One kind of request.

    Attributes:
        name: what tables call it.
        weight: share of the mix, relative to the other weights.
        ids: largest id to ask for; 0 for a path without id.
    """

    name: str
    method: str
    path: str
    weight: int
    ids: int


ROUTES = (
    ShopRoute("/orders", "GET", "/orders/{id}", 4, seed.ORDERS),
    ShopRoute("/cart", "POST", "/cart/{id}", 1, seed.CUSTOMERS),
    ShopRoute("/item", "GET", "/item/{id}", 2, seed.ITEMS),
    ShopRoute("/about", "GET", "/about", 3, 0),
)
"""Chatty first: 11, 4, 1 and 0 queries."""


@dataclass(frozen=True, slots=True)
class Record:
    """One finished request, as its user saw it.

    Attributes:
        at: monotonic time of its start.
        latency: from sending it to the whole response, s.
        status: HTTP status, 0 when no response came.
        placement: value of the `onetrip-placement` header, "" without one.
    """

    at: float
    region: str
    route: str
    latency: float
    status: int
    placement: str

    @property
    def is_failure(self) -> bool:
        """No response, or not a good one."""
        return not 200 <= self.status < 300


def draw(rng: Random, routes: tuple[ShopRoute, ...] = ROUTES) -> tuple[ShopRoute, str]:
    """Return a route and a path of it."""
    route = rng.choices(routes, [r.weight for r in routes])[0]
    path = route.path.format(id=rng.randint(1, route.ids)) if route.ids else route.path
    return route, path


@dataclass(slots=True)
class Records:
    """Everything users saw.

    Attributes:
        total: requests finished, kept or not.
        failures: of them, how many failed.
        last_failure: description of the latest failure, "" while there is none.
    """

    total: int = 0
    failures: int = 0
    last_failure: str = ""
    _kept: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Keep one record."""
        self.total += 1
        if record.is_failure:
            self.failures += 1
            what = f"status {record.status}" if record.status else "no response"
            self.last_failure = f"{record.region} {record.route}: {what}"
        if len(self._kept) < MAX_RECORDS:
            self._kept.append(record)

    def window(self, start: float, end: float = float("inf")) -> Window:
        """Return the records of requests started in [start, end)."""
        return Window([r for r in self._kept if start <= r.at < end])


@dataclass(frozen=True, slots=True)
class Window:
    """Records of one phase of the demo."""

    records: list[Record]

    def of(self, region: str, route: str) -> list[Record]:
        """Return the successful requests of one region for one route."""
        return [
            r for r in self.records if r.region == region and r.route == route and not r.is_failure
        ]

    def p50(self, region: str, route: str) -> float | None:
        """Return the median latency, s, or None without a request."""
        return median_of(r.latency for r in self.of(region, route))

    def count(self, region: str, route: str) -> int:
        """Return the number of successful requests."""
        return len(self.of(region, route))

    def ratio(self, region: str, route: str, is_wanted: Callable[[Record], bool]) -> float:
        """Return the share (0-1) of successful requests that `is_wanted`; 0 without any."""
        records = self.of(region, route)
        return sum(map(is_wanted, records)) / len(records) if records else 0.0

    def usual_placement(self, region: str, route: str) -> str:
        """Return the most frequent placement header, "" without one."""
        seen = [r.placement for r in self.of(region, route)]
        return max(sorted(set(seen)), key=seen.count) if seen else ""


def median_of(values: Iterable[float]) -> float | None:
    """Return the median, or None of nothing."""
    kept = list(values)
    return median(kept) if kept else None
