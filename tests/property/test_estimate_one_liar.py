"""One liar: whatever it says, honest regions are believed, and it cannot look near what is far."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.app.vetting import without
from onetrip.estimate.plausibility import FACTOR, SLACK, judge
from onetrip.model.measure import EstimateState, Target, TargetKind
from onetrip.model.topology import RegionId
from support.claims import rows_of

LIARS = ("scaled", "zeros", "added", "one pair", "database", "everything")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """RTTs of regions on a plane of 300 ms with access links, and of databases in some of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(3, 9))
    places, links = rng.uniform(0, 0.3, (size, 2)), rng.uniform(0, 0.005, size)
    rtt = np.linalg.norm(places[:, None] - places[None, :], axis=2)
    rtt += links[:, None] + links[None, :]
    rtt *= rng.uniform(1.0, 1.05, rtt.shape)  # the ends measure at different times
    np.fill_diagonal(rtt, 0.0)
    homes = rng.integers(0, size, draw(st.integers(1, 3)))
    return rtt, np.maximum(rtt[:, homes], 0.0005)


def lie(kind: str, liar: int, amount: float, peers: np.ndarray, data: np.ndarray) -> None:
    """Change the liar's claims in place."""
    match kind:
        case "scaled":
            peers[liar] *= amount * 10
            data[liar] *= amount * 10
        case "zeros":
            peers[liar] = data[liar] = 0.0
        case "added":
            peers[liar] += amount
            data[liar] += amount
        case "one pair":
            peers[liar, (liar + 1) % len(peers)] = amount
        case "database":
            data[liar, 0] = amount / 100
        case "everything":
            peers[liar] = np.random.default_rng(int(amount * 1e6)).uniform(0, 1, len(peers))
            data[liar] = amount


@settings(deadline=None, max_examples=150)
@given(worlds(), st.sampled_from(LIARS), st.integers(1, 8), st.floats(0.0, 1.0))
def test_one_liar(
    world: tuple[np.ndarray, np.ndarray], kind: str, liar: int, amount: float
) -> None:
    rtt, data = world
    liar = 1 + liar % (len(rtt) - 1)  # region 0 is this node
    regions = [RegionId(f"r{i}") for i in range(len(rtt))]
    backends = [f"b{k}" for k in range(data.shape[1])]
    told, claimed = rtt.copy(), data.copy()
    lie(kind, liar, amount, told, claimed)
    rows = rows_of(regions, told, claimed)
    found = judge(rows, regions[0], regions, backends, [None] * len(regions))
    assert {each.region for each in found if each.is_proven} <= {regions[liar]}
    believed = without(rows, found)
    for i, region in enumerate(regions):
        for k, name in enumerate(backends):
            estimate = believed[region][Target(TargetKind.BACKEND, name)]
            if i != liar:
                assert estimate.rtt == data[i, k]
                assert estimate.state is EstimateState.FRESH
            # By this node's own measurements alone it cannot be nearer than that.
            least = (data[0, k] - SLACK) / FACTOR - rtt[0, i]
            assert estimate.rtt >= least - 1e-9


@settings(deadline=None, max_examples=50)
@given(worlds())
def test_without_a_liar_everybody_is_believed(world: tuple[np.ndarray, np.ndarray]) -> None:
    rtt, data = world
    regions = [RegionId(f"r{i}") for i in range(len(rtt))]
    backends = [f"b{k}" for k in range(data.shape[1])]
    for own in regions:
        assert judge(rows_of(regions, rtt, data), own, regions, backends, [None] * len(rtt)) == []
