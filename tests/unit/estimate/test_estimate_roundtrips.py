"""Learned round trips: right within half a trip on measured RTTs, honest when they cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onetrip.estimate.roundtrips import fit, solve_nonnegative
from onetrip.estimate.windows import locate
from onetrip.model.measure import ServiceSummary, TripEvidence
from onetrip.model.topology import RegionId
from support.world import load_topology

SEEDS = range(20)


def observed(
    region: RegionId, rtts: dict[str, float], trips: dict[str, float], rng: np.random.Generator
) -> ServiceSummary:
    """Twenty requests: lognormal compute of 8 ms, 1 % RTT jitter, one cold start."""
    compute = rng.lognormal(np.log(0.008), 0.4, 20)
    times = compute + sum(n * rtts[b] * (1 + 0.01 * rng.random(20)) for b, n in trips.items())
    times[0] += 1.5
    place = locate(times)
    return ServiceSummary(region, place.count, place.mean, place.error, rtts)


@pytest.mark.parametrize("count", [3, 11, 25, 50])
@pytest.mark.parametrize("name", ["3", "12", "48_azure"])
def test_trips_are_learned_within_half_a_trip(name: str, count: int) -> None:
    regions, rtt = load_topology(name)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        home, *seen = rng.choice(len(regions), 3, replace=False)
        rows = [
            observed(regions[i], {"db": 0.0005 if i == home else rtt[i, home]}, {"db": count}, rng)
            for i in (home, *seen)
        ]
        found = fit(("db",), rows)
        assert found.mean[1] == pytest.approx(count, abs=0.5), f"seed {seed}"


def test_two_databases_are_told_apart_by_where_they_are() -> None:
    regions, rtt = load_topology("12")
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        first, second, *rest = rng.choice(len(regions), 6, replace=False)
        rows = [
            observed(
                regions[i],
                {"db": rtt[i, first] or 0.0005, "cache": rtt[i, second] or 0.0005},
                {"db": 9, "cache": 4},
                rng,
            )
            for i in (first, second, *rest)
        ]
        found = fit(("db", "cache"), rows)
        assert found.mean[1] == pytest.approx(9, abs=0.5), f"seed {seed}"
        assert found.mean[2] == pytest.approx(4, abs=0.5), f"seed {seed}"


def test_a_probe_slower_than_a_query_beside_the_database_does_not_bend_the_count() -> None:
    # 11 trips; beside the database a probe says 1.8 ms where a query takes 1.0 ms.
    rows = [
        ServiceSummary(RegionId("den"), 80, 2.529, 0.002, {"db": 0.2296}),
        ServiceSummary(RegionId("bom"), 200, 0.012, 0.0002, {"db": 0.0018}),
        ServiceSummary(RegionId("fra"), 100, 1.297, 0.002, {"db": 0.1174}),
    ]
    assert fit(("db",), rows).mean[1] == pytest.approx(11, abs=0.1)


@pytest.mark.parametrize("source", ["count", "relay"])
def test_counted_trips_settle_what_one_region_cannot(source: str) -> None:
    told = [TripEvidence("db", 11.0, 0.1, 20, source)]
    found = fit(("db",), [ServiceSummary(RegionId("den"), 20, 2.53, 0.01, {"db": 0.229})], told)
    assert found.mean[1] == pytest.approx(11, abs=0.1)
    assert found.sources == ("traffic", source)
    low, high = found.interval("db")
    assert high - low < 0.5


def test_sources_that_disagree_are_weighed_by_their_errors() -> None:
    told = [TripEvidence("db", 4.0, 1.0, 5, "timing"), TripEvidence("db", 8.0, 0.1, 5, "relay")]
    assert fit(("db",), [], told).mean[1] == pytest.approx(8.0, abs=0.1)


def test_one_region_leaves_a_wide_interval() -> None:
    found = fit(("db",), [ServiceSummary(RegionId("den"), 50, 2.52, 0.01, {"db": 0.229})])
    low, high = found.interval("db")
    assert low == 0
    assert high > 20


def test_a_route_without_queries_is_learned_as_none() -> None:
    rows = [
        ServiceSummary(RegionId("den"), 20, 0.0031, 0.0002, {"db": 0.229}),
        ServiceSummary(RegionId("bom"), 20, 0.0033, 0.0002, {"db": 0.0005}),
    ]
    assert fit(("db",), rows).mean[1] == 0


def test_a_summary_without_its_rtt_is_left_out() -> None:
    rows = [ServiceSummary(RegionId("den"), 20, 2.5, 0.01, {"db": float("nan")})]
    found = fit(("db",), rows)
    assert (found.requests, found.regions) == (0, 0)


def test_nonnegative_solution_is_optimal() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1, 7))
        basis = rng.normal(size=(size + 2, size))
        gram = basis.T @ basis + 0.01 * np.eye(size)
        target = rng.normal(size=size)
        x = solve_nonnegative(gram, target)
        slope = target - gram @ x
        # Karush-Kuhn-Tucker: no ascent at 0, no slope where positive.
        assert (x >= 0).all(), f"seed {seed}"
        assert (slope <= 1e-6).all(), f"seed {seed}"
        assert abs(slope[x > 0]).max(initial=0) < 1e-6, f"seed {seed}"


def test_no_unknown_is_believed_to_be_below_nothing() -> None:
    # Three regions, three unknowns, and RTTs so alike that many splits fit; but every one of them
    # with fewer trips to `db` needs fewer than none to `cache`.
    rows = [
        ServiceSummary(RegionId("a"), 200, 8 * 0.245, 0.0005, {"db": 0.245, "cache": 0.162}),
        ServiceSummary(RegionId("b"), 200, 8 * 0.152, 0.0005, {"db": 0.152, "cache": 0.212}),
        ServiceSummary(RegionId("c"), 200, 8 * 0.1355, 0.0002, {"db": 0.1355, "cache": 0.219}),
    ]
    found = fit(("db", "cache"), rows)
    assert found.mean[1:] == pytest.approx([8.0, 0.0], abs=0.2)
    low, high = found.interval("db")
    assert 6.5 < low < 8.0 < high < 9.5
    assert found.interval("cache")[1] < 1.5


def test_bound_takes_in_everything_possible() -> None:
    # From one region alone all of the time may be compute, or all of it round trips.
    row = ServiceSummary(RegionId("a"), 200, 2.5, 0.001, {"db": 0.229})
    found = fit(("db",), [row])
    deviation = math.sqrt(found.covariance[1, 1])
    assert found.mean[1] - 1.645 * deviation <= 0.01
    assert found.mean[1] + 1.645 * deviation >= 2.5 / 0.229


@pytest.mark.parametrize("regions_seen", [1, 2, 3, 4])
def test_lower_bounds_of_a_saving_hold(regions_seen: int) -> None:
    # Whatever regions have traffic: the bound that a move rests on is right 19 times of 20.
    regions, rtt = load_topology("12")
    missed = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        homes = rng.choice(len(regions), 2, replace=False)
        seen = rng.choice(len(regions), regions_seen, replace=False)
        trips = {"db": float(rng.integers(0, 12)), "cache": float(rng.integers(0, 6))}
        away = {
            i: {
                name: float(rtt[i, home]) or 0.0005
                for name, home in zip(("db", "cache"), homes, strict=True)
            }
            for i in range(len(regions))
        }
        found = fit(("db", "cache"), [observed(regions[i], away[i], trips, rng) for i in seen])
        other = int(rng.integers(len(regions)))
        saved = np.array([away[int(seen[0])][b] - away[other][b] for b in ("db", "cache")])
        error = math.sqrt(max(0.0, saved @ found.covariance[1:, 1:] @ saved))
        truth = float(saved @ np.array([trips["db"], trips["cache"]]))
        missed += float(saved @ found.mean[1:]) - 1.645 * error > truth + 0.005
    assert missed <= 0.05 * 400
