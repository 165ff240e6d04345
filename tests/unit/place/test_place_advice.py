"""Advice on where data should be: it keeps its word, and is the optimum on measured matrices."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onetrip.model.topology import RegionId
from onetrip.place.advice import Demand, advise, choose_sites, site_costs
from support.world import load_topology

INSIDE = 0.0005
NAMES = tuple(RegionId(f"r{n}") for n in range(60))


def regions_of(name: str) -> NDArray[np.float64]:
    rtt = np.array(load_topology(name)[1])
    np.fill_diagonal(rtt, INSIDE)
    return rtt


def demand(
    rtt: NDArray[np.float64], edge: int, trips: float, *, weight: float = 1.0, is_read: bool = True
) -> Demand:
    size = len(rtt)
    way = rtt[edge].copy()
    way[edge] = 0.0
    return Demand(weight, trips, way, np.zeros(size), np.ones(size, dtype=bool), is_read)


def mixed(rtt: NDArray[np.float64], seed: int) -> list[Demand]:
    """Return 90 % reads and 10 % writes from six edges."""
    rng = np.random.default_rng(seed)
    found = []
    for edge in rng.choice(len(rtt), 6, replace=False):
        trips, weight = float(rng.choice([1, 3, 8, 20])), float(rng.uniform(0.2, 2))
        found.append(demand(rtt, int(edge), trips, weight=0.9 * weight))
        found.append(demand(rtt, int(edge), trips, weight=0.1 * weight, is_read=False))
    return found


def least(
    costs: NDArray[np.float64], weights: NDArray[np.float64], base: NDArray[np.float64], count: int
) -> float:
    """Return the exact optimum, by trying every set."""
    sets = combinations(range(costs.shape[1]), count)
    return min(float(weights @ np.minimum(base, costs[:, s].min(axis=1))) for s in map(list, sets))


@pytest.mark.parametrize("name", ["12", "48_azure"])
@pytest.mark.parametrize("seed", range(6))
def test_sites_are_the_exact_optimum_within_a_percent(name: str, seed: int) -> None:
    rtt = regions_of(name)
    demands = mixed(rtt, seed)
    weights = np.array([d.weight for d in demands])
    costs = site_costs(demands, rtt)
    is_read = np.array([d.is_read for d in demands])
    base = costs[:, 0]
    sites = np.where(is_read[:, None], costs, np.inf)
    for count in (1, 2, 3) if name == "12" else (1, 2):
        chosen = choose_sites(sites, weights, base, count)
        assert len(set(chosen)) == count
        total = float(weights @ np.minimum(base, sites[:, list(chosen)].min(axis=1)))
        assert total <= 1.01 * least(sites, weights, base, count)
        assert count > 1 or total == pytest.approx(least(sites, weights, base, 1))


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_more_replicas_never_cost_reads_more_and_savings_add_up(seed: int, most: int) -> None:
    rtt = regions_of("5")
    home = seed % len(rtt)
    demands = [
        demand(rtt, e, 1 + (seed >> e) % 20, weight=1 + e, is_read=(seed >> e) % 5 > 0)
        for e in range(len(rtt))
    ]
    found = advise(demands, rtt, rtt[:, [home]], home, NAMES, most)
    assert found is not None
    latencies = [found.latency, *(plan.latency for plan in found.replicas)]
    assert latencies == sorted(latencies, reverse=True)
    for plan in found.replicas:
        assert plan.saving == pytest.approx(found.latency - plan.latency)
        assert NAMES[home] not in plan.regions, "the primary is there already"
        assert plan.commit_wait == max(rtt[home, NAMES.index(r)] for r in plan.regions)
    if found.primary is not None:
        assert found.primary.region != NAMES[home]
        assert found.primary.saving > 0


def test_readers_far_away_get_a_replica_beside_them() -> None:
    rtt = np.array([[INSIDE, 0.2], [0.2, INSIDE]])
    reads = demand(rtt, 1, 11, weight=9)
    writes = demand(rtt, 1, 11, is_read=False)
    found = advise([reads, writes], rtt, rtt[:, [0]], 0, NAMES)
    assert found is not None
    (plan,) = found.replicas
    assert plan.regions == (NAMES[1],)
    # Now: all of them run beside the primary. Then: reads run at the edge.
    assert found.latency == pytest.approx(0.2 + 11 * INSIDE)
    assert plan.saving == pytest.approx(0.9 * 0.2)
    assert found.write_ratio == pytest.approx(0.1)
    assert found.primary is not None
    assert found.primary.region == NAMES[1]
    assert found.primary.saving == pytest.approx(0.2)


def test_writes_alone_gain_nothing_from_replicas() -> None:
    rtt = np.array([[INSIDE, 0.2], [0.2, INSIDE]])
    found = advise([demand(rtt, 1, 11, is_read=False)], rtt, rtt[:, [0]], 0, NAMES)
    assert found is not None
    assert found.replicas == ()


def test_regions_that_may_not_run_a_route_do_not_count() -> None:
    rtt = np.array([[INSIDE, 0.2], [0.2, INSIDE]])
    only_here = demand(rtt, 1, 11)
    stuck = Demand(1.0, 11, only_here.edge, only_here.other, np.array([False, True]), True)
    found = advise([stuck], rtt, rtt[:, [0]], 0, NAMES)
    assert found is not None
    assert found.latency == pytest.approx(11 * 0.2)
    nowhere = Demand(1.0, 11, only_here.edge, only_here.other, np.zeros(2, dtype=bool), True)
    assert advise([nowhere], rtt, rtt[:, [0]], 0, NAMES) is None


def test_replicas_that_nobody_reads_from_yet_do_not_count_as_now() -> None:
    rtt = np.array([[INSIDE, 0.2], [0.2, INSIDE]])
    reads = demand(rtt, 1, 11)
    other = Demand(1.0, 11, reads.edge, reads.other, reads.places, True, reads_nearest=False)
    found = advise([other], rtt, rtt, 0, NAMES)
    assert found is not None
    assert found.latency == pytest.approx(0.2 + 11 * INSIDE)
