"""Drift: a new deployment is told from a moved path, and noise is told from both."""

from __future__ import annotations

import numpy as np
import pytest

from onetrip.estimate.traffic import DEFAULT_LAG, TrafficBook
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import Arm, Drift, DriftKind, MethodClass, Observation, RouteKey
from onetrip.model.topology import RegionId

DEN = RegionId("den")
KEY = RouteKey(EnvironmentId("shop", "production"), "/orders/{id}", MethodClass.READ)


def run(
    book: TrafficBook, services: np.ndarray, rtt: float, start: float = 0.0, rate: float = 1.0
) -> list[Drift]:
    found: list[Drift] = []
    for i, service in enumerate(services):
        at = start + i / rate
        seen = Observation(
            KEY, DEN, DEN, Arm.DEFAULT, float(service), float(service), False, False, at
        )
        book.observe(seen, {"db": rtt})
        found += book.drifts()
    return found


def times(rng: np.random.Generator, count: int, trips: float, rtt: float) -> np.ndarray:
    return np.asarray(rng.lognormal(np.log(0.008), 0.4, count) + trips * rtt)


@pytest.mark.parametrize("trips", [0, 1, 11])
def test_noise_alone_raises_no_alarm(trips: float) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert run(TrafficBook(DEN), times(rng, 2000, trips, 0.229), 0.229) == [], f"seed {seed}"


def test_a_deploy_that_changes_the_trips_is_a_code_change() -> None:
    for seed in range(10):
        rng, book = np.random.default_rng(seed), TrafficBook(DEN)
        run(book, times(rng, 50, 11, 0.229), 0.229)
        found = run(book, times(rng, 60, 3, 0.229), 0.229, start=50.0)
        assert [d.kind for d in found] == [DriftKind.CODE], f"seed {seed}"
        assert found[0].at - 50 <= DEFAULT_LAG + 5, "once no RTT has moved for long enough"
        assert found[0].before == pytest.approx(11 * 0.229, rel=0.05)
        assert found[0].after == pytest.approx(3 * 0.229, rel=0.1)
        ((row,),) = book.services(110.0).values()
        assert row.mean == pytest.approx(3 * 0.229 + 0.008, rel=0.05), "old times are gone"


def test_a_moved_path_is_a_network_change_that_costs_no_learning() -> None:
    for seed in range(10):
        rng, book = np.random.default_rng(seed), TrafficBook(DEN)
        run(book, times(rng, 50, 11, 0.120), 0.120)
        # The path is longer at once; the RTT filter believes it 20 s later.
        assert run(book, times(rng, 20, 11, 0.229), 0.120, start=50.0) == []
        ((row,),) = book.services(70.0).values()
        assert row.mean == pytest.approx(11 * row.rtts["db"] + 0.009, rel=0.02), "old with old"
        found = run(book, times(rng, 30, 11, 0.229), 0.229, start=70.0)
        assert [d.kind for d in found] == [DriftKind.NETWORK], f"seed {seed}"
        ((_, row),) = book.services(100.0).values()
        assert row.mean == pytest.approx(11 * row.rtts["db"] + 0.009, rel=0.03), "new with new"


def test_times_taken_before_the_rtt_was_believed_are_dropped_without_an_alarm() -> None:
    rng, book = np.random.default_rng(1), TrafficBook(DEN)
    run(book, times(rng, 20, 11, 0.120), 0.120, start=-100.0)
    run(book, times(rng, 4, 11, 0.229), 0.120, start=0.0)
    run(book, times(rng, 4, 11, 0.229), 0.229, start=4.0)
    ((old, new),) = book.services(10.0).values()
    assert (old.count, new.count) == (20, 4)
    for row in (old, new):
        assert row.mean == pytest.approx(11 * row.rtts["db"] + 0.009, rel=0.02)


def test_a_busy_route_notices_as_soon_as_a_quiet_one() -> None:
    # More times are set apart within the lag than a window keeps.
    rng, book = np.random.default_rng(1), TrafficBook(DEN)
    run(book, times(rng, 400, 11, 0.229), 0.229, rate=20.0)
    found = run(book, times(rng, 1200, 3, 0.229), 0.229, start=20.0, rate=20.0)
    assert [d.kind for d in found] == [DriftKind.CODE]
    assert found[0].at - 20 <= DEFAULT_LAG + 1


def test_a_rolling_deployment_is_noticed() -> None:
    for seed in range(30):
        rng, book = np.random.default_rng(seed), TrafficBook(DEN)
        run(book, times(rng, 100, 11, 0.229), 0.229)
        is_new = rng.random(100) < np.linspace(0.0, 1.0, 100)
        mixed = np.where(is_new, times(rng, 100, 3, 0.229), times(rng, 100, 11, 0.229))
        found = run(book, mixed, 0.229, start=100.0)
        found += run(book, times(rng, 100, 3, 0.229), 0.229, start=200.0)
        assert {d.kind for d in found} == {DriftKind.CODE}, f"seed {seed}"
        ((row,),) = book.services(300.0).values()
        assert row.mean == pytest.approx(3 * 0.229 + 0.008, rel=0.2), f"seed {seed}"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_two_kinds_of_requests_are_no_drift(share: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        kinds = rng.random(4000) < share
        mixed = np.where(kinds, times(rng, 4000, 11, 0.1), times(rng, 4000, 1, 0.1))
        assert run(TrafficBook(DEN), mixed, 0.1) == [], f"seed {seed}"


def test_one_spike_is_no_drift() -> None:
    rng, book = np.random.default_rng(1), TrafficBook(DEN)
    services = times(rng, 300, 3, 0.05)
    services[::25] += 4.0
    assert run(book, services, 0.05) == []


def test_a_slow_start_is_no_drift() -> None:
    rng, book = np.random.default_rng(1), TrafficBook(DEN)
    services = times(rng, 100, 3, 0.05)
    services[:8] += 1.0
    assert run(book, services, 0.05) == []


def test_arms_start_anew_after_a_drift() -> None:
    rng, book = np.random.default_rng(1), TrafficBook(DEN)
    run(book, times(rng, 50, 11, 0.229), 0.229)
    run(book, times(rng, 60, 3, 0.229), 0.229, start=50.0)
    route = book.get(KEY)
    assert route is not None
    assert route.trial.moments(Arm.DEFAULT).mean < 1.0
