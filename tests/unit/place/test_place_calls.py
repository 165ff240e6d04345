"""Calls between services: their columns against the exact optimum of a whole chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import EnvironmentId, Mode, Policy
from onetrip.model.measure import MethodClass, RouteKey, ServiceSummary
from onetrip.model.placement import Status
from onetrip.model.topology import RegionId
from onetrip.place.calls import CallColumns, CalledRoute, call_name
from onetrip.place.defaults import EnvironmentInput
from onetrip.place.placer import Placer, RouteInput
from support.world import load_topology, matrix_of

REGIONS, RTT = load_topology("12")
WAYS = np.where(np.eye(len(REGIONS), dtype=bool), 0.0, RTT)
SMART = Policy(mode=Mode.SMART, least_gain=0.0)


def service(
    name: str, backends: tuple[str, ...], policy: Policy = SMART, regions: Sequence[RegionId] = ()
) -> EnvironmentInput:
    ready = dict.fromkeys(regions or REGIONS, True)
    return EnvironmentInput(EnvironmentId(name, "production"), policy, backends, ready)


def route(owner: EnvironmentInput, trips: Mapping[str, float], **changes: object) -> CalledRoute:
    key = RouteKey(owner.id, "/", MethodClass.READ)
    return CalledRoute(key, trips, **changes)  # type: ignore[arg-type]


def column(matrix: RttMatrix, owner: EnvironmentInput) -> np.ndarray:
    return matrix.backend_rtt[:, matrix.backends.index(call_name(owner.id))]


@settings(max_examples=25, deadline=None)
@given(
    homes=st.tuples(*[st.sampled_from(REGIONS)] * 3),
    trips=st.tuples(*[st.integers(0, 5)] * 3),
    calls=st.tuples(*[st.integers(0, 3)] * 2),
    edge=st.integers(0, len(REGIONS) - 1),
    size=st.integers(3, 6),
)
def test_a_chain_of_services_is_placed_as_the_exact_optimum_of_all_of_them_together(
    homes: tuple[RegionId, ...],
    trips: tuple[int, ...],
    calls: tuple[int, ...],
    edge: int,
    size: int,
) -> None:
    # shop calls stock, stock calls prices; each has a database of its own.
    places = sorted({*homes, *REGIONS[:size]})
    databases = {f"db{n}": home for n, home in enumerate(homes)}
    matrix = matrix_of(REGIONS, RTT, databases)
    prices = service("prices", ("db2",), regions=places)
    stock = service("stock", ("db1", call_name(prices.id)), regions=places)
    matrix = CallColumns().add(
        matrix,
        [prices, stock],
        {
            prices.id: [route(prices, {"db2": trips[2]})],
            stock.id: [route(stock, {"db1": trips[1], call_name(prices.id): calls[1]})],
        },
    )
    data = {b: matrix.backend_rtt[:, matrix.backends.index(b)] for b in databases}
    where = [REGIONS.index(p) for p in places]

    def exact(x: int, y: int, z: int) -> float:
        last = WAYS[y, z] + trips[2] * data["db2"][z]
        middle = WAYS[x, y] + trips[1] * data["db1"][y] + calls[1] * last
        return float(WAYS[edge, x] + trips[0] * data["db0"][x] + calls[0] * middle)

    shop = [
        WAYS[edge, x] + trips[0] * data["db0"][x] + calls[0] * column(matrix, stock)[x]
        for x in where
    ]
    assert min(shop) == pytest.approx(min(exact(*way) for way in product(where, repeat=3)))


def test_a_service_that_is_off_takes_what_its_nearest_instance_takes() -> None:
    home, other = REGIONS[0], REGIONS[1]
    matrix = matrix_of(REGIONS, RTT, {"db": home})
    off = service("stock", ("db",), Policy(mode=Mode.OFF), regions=[home, other])
    found = column(CallColumns().add(matrix, [off], {off.id: [route(off, {"db": 4})]}), off)
    data = matrix.backend_rtt[:, 0]
    assert found[1] == pytest.approx(4 * data[1])
    far = 5
    near = min((0, 1), key=lambda n: WAYS[far, n])
    assert found[far] == pytest.approx(WAYS[far, near] + 4 * data[near])


def test_what_is_denied_or_down_takes_no_call() -> None:
    home, other = REGIONS[0], REGIONS[1]
    matrix = matrix_of(REGIONS, RTT, {"db": home})
    kept = service("stock", ("db",), regions=[home, other])
    denied = route(kept, {"db": 4}, deny=frozenset({home}))
    found = CallColumns().add(matrix, [kept], {kept.id: [denied]})
    expected = WAYS[0, 1] + 4 * matrix.backend_rtt[1, 0]
    assert column(found, kept)[0] == pytest.approx(expected)
    assert found.served_by[call_name(kept.id)][0] == f"stock/production in {other}"
    down = EnvironmentInput(kept.id, SMART, ("db",), {home: False})
    nothing = column(CallColumns().add(matrix, [down], {down.id: [route(down, {})]}), down)
    assert np.isnan(nothing).all()


def test_a_service_without_a_measured_route_is_unknown_and_routes_count_by_their_requests() -> None:
    home = REGIONS[0]
    matrix = matrix_of(REGIONS, RTT, {"db": home})
    stock = service("stock", ("db",), regions=[home])
    key = RouteKey(stock.id, "/new", MethodClass.READ)
    unknown = CallColumns().add(matrix, [stock], {stock.id: [CalledRoute(key, None, ())]})
    assert np.isnan(column(unknown, stock)).all()

    rtts = {"db": 0.0005}
    quick = CalledRoute(key, {"db": 0}, (ServiceSummary(home, 30, 0.010, 0.001, rtts),))
    slow = route(stock, {"db": 0}, services=(ServiceSummary(home, 10, 0.050, 0.001, rtts),))
    both = column(CallColumns().add(matrix, [stock], {stock.id: [slow, quick]}), stock)
    assert both[0] == pytest.approx(0.75 * 0.010 + 0.25 * 0.050)


def test_the_caller_learns_its_calls_from_service_times_and_moves_for_the_sake_of_them() -> None:
    # Ten calls of a service whose database is far away: better run the caller over there, too.
    edge, home = REGIONS[0], REGIONS[int(np.nanargmax(WAYS[0]))]
    matrix = matrix_of(REGIONS, RTT, {"db": home})
    stock = service("stock", ("db",))
    matrix = CallColumns().add(matrix, [stock], {stock.id: [route(stock, {"db": 3})]})
    name = call_name(stock.id)
    shop = EnvironmentInput(
        EnvironmentId("shop", "production"),
        Policy(mode=Mode.SMART),
        (name,),
        dict.fromkeys(REGIONS, True),
    )
    key = RouteKey(shop.id, "/checkout", MethodClass.READ)
    column_of = {r: float(column(matrix, stock)[n]) for n, r in enumerate(REGIONS)}
    services = tuple(
        ServiceSummary(r, 40, 0.004 + 10 * column_of[r], 0.001, {name: column_of[r]})
        for r in (edge, home)
    )
    placer = Placer(edge)
    seen = RouteInput(key, False, None, services, None, 200, 0, 1.0, 60.0)
    placer.decide(matrix, [shop], [seen], 1000.0, 1000.0)
    found = placer.snapshot.routes[key]
    assert (found.status, found.regions[0]) == (Status.PLACED, home)
    (decision,) = placer.decisions()
    assert decision.trips.round_trips[name] == pytest.approx(10, abs=0.3)
    chosen = next(c for c in decision.candidates if c.verdict == "chosen")
    assert chosen.endpoints == (f"stock/production in {home}",)
