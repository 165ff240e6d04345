"""What a database relay tells its region's node, and what the node tells about its relays."""

from __future__ import annotations

from dataclasses import dataclass

from onetrip.model.measure import RouteKey, TripEvidence


@dataclass(frozen=True, slots=True)
class FlipReport:
    """Round trips counted by one relay in one interval.

    Attributes:
        backend: name of the backend behind the relay.
        relay: what tells relays apart; "" when there is only one.
        project: the only project whose requests come through it; "" for every bound one.
        at: Unix time of the interval's end, s.
        duration: length of the interval, s.
        trips, setup_trips: completed in it.
        connections: opened in it.
        opaque: connections that turned opaque in it, whose set-up is a guess.
    """

    backend: str
    relay: str
    project: str
    at: float
    duration: float
    trips: int
    setup_trips: int
    connections: int
    opaque: int = 0


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """All relays of one backend (and project) in this node's region.

    Attributes:
        relays: how many were heard lately.
        age: s since the newest report.
        delay: how late the newest report's interval ended before it arrived, s; far from 0 when
            the clocks disagree.
        trips, setup_trips, connections, opaque: since the node started.
        windows: seconds of counts that were attributed to routes.
        requests: requests that ran in them.
        trips_per_request: trips in them a request, background work included; NaN without any.
        background: trips a second that belong to no request.
        routes: evidence per route.
    """

    backend: str
    project: str
    relays: int
    age: float
    delay: float
    trips: int
    setup_trips: int
    connections: int
    opaque: int
    windows: int
    requests: float
    trips_per_request: float
    background: float
    routes: tuple[tuple[RouteKey, TripEvidence], ...]
