"""Database relays in the admin API: the reports they send, and what is known from them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from onetrip.control.figures import finite
from onetrip.control.requests import parse
from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Catalog
from onetrip.model.relay import FlipReport, RelayStatus

MAX_COUNT = 10**9
"""Largest count of one report; a relay passes some ten thousand trips a second."""

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class FlipsOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/flips`: what one relay counted in one interval (`model.relay.FlipReport`).

    Attributes:
        at: Unix time of the interval's end, s.
        duration: length of the interval, s.
        relay: tells several relays of one backend apart.
        project: the only project whose requests come through it; "" for every bound one.
    """

    backend: Annotated[str, Meta(max_length=64)]
    at: Annotated[float, Meta(ge=0, le=1e11)]
    duration: Annotated[float, Meta(gt=0, le=1e6)]
    trips: Count
    setup_trips: Count = 0
    connections: Count = 0
    opaque: Count = 0
    relay: Annotated[str, Meta(pattern="^[0-9a-z-]{0,32}$")] = ""
    project: Annotated[str, Meta(max_length=64)] = ""


class RelayRouteRow(Struct, frozen=True):
    """Trips a request of one route, from counts, with their standard error."""

    project: str
    environment: str
    route: str
    method: str
    round_trips: float | None
    error: float | None
    requests: int


class RelayRow(Struct, frozen=True):
    """All relays of one backend in the node's region (`model.relay.RelayStatus`). Times in s.

    Attributes:
        setup_trips_per_connection: cold: round trips until a session is ready.
        trips_per_request: warm: round trips of queries a request, background work included.
        background_trips: a second, of no request.
    """

    backend: str
    project: str
    relays: int
    age: float | None
    delay: float | None
    trips: int
    setup_trips: int
    connections: int
    opaque: int
    windows: int
    requests: int
    setup_trips_per_connection: float | None
    trips_per_request: float | None
    background_trips: float | None
    routes: list[RelayRouteRow]


class RelaysBody(Struct, frozen=True):
    """`GET /v1/relays`."""

    relays: list[RelayRow]


def report_of(body: bytes, catalog: Catalog) -> FlipReport:
    """Decode a relay's report.

    Raises:
        ApiError: it is no such report, or names a backend or project that does not exist.
    """
    order = parse(body, FlipsOrder)
    if order.backend not in catalog.backends:
        raise ApiError(f"no backend {order.backend[:40]!r}", field="backend", kind=Kind.NOT_FOUND)
    if order.project and order.project not in catalog.projects:
        raise ApiError(f"no project {order.project[:40]!r}", field="project", kind=Kind.NOT_FOUND)
    return FlipReport(
        backend=order.backend,
        relay=order.relay,
        project=order.project,
        at=order.at,
        duration=order.duration,
        trips=order.trips,
        setup_trips=order.setup_trips,
        connections=order.connections,
        opaque=order.opaque,
    )


def relay_row(status: RelayStatus) -> RelayRow:
    """Describe the relays of one backend."""
    connections = status.connections
    return RelayRow(
        backend=status.backend,
        project=status.project,
        relays=status.relays,
        age=finite(status.age),
        delay=finite(status.delay),
        trips=status.trips,
        setup_trips=status.setup_trips,
        connections=connections,
        opaque=status.opaque,
        windows=status.windows,
        requests=round(status.requests),
        setup_trips_per_connection=finite(status.setup_trips / connections)
        if connections
        else None,
        trips_per_request=finite(status.trips_per_request),
        background_trips=finite(status.background),
        routes=[
            RelayRouteRow(
                project=key.environment.project,
                environment=key.environment.environment,
                route=key.route,
                method=key.method.value,
                round_trips=finite(found.trips),
                error=finite(found.error),
                requests=found.requests,
            )
            for key, found in status.routes
        ],
    )
