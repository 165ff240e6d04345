"""Claims that cannot be true are found, and real networks make none."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from onetrip.estimate.coordinates import fit_coordinates
from onetrip.estimate.plausibility import Rejection, judge
from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import RegionId
from support.claims import rows_of
from support.world import DATA, load_topology

DEN, BOM, FRA = REGIONS = [RegionId(name) for name in ("den", "bom", "fra")]
RTT = np.array([[0.0, 0.229, 0.136], [0.229, 0.0, 0.117], [0.136, 0.117, 0.0]])
"""Between Cheyenne, Mumbai and Frankfurt, s (topo_3)."""

DB = np.array([[0.2295], [0.0005], [0.1175]])
"""To a database in Mumbai, s."""

PLACES = [(39.74, -104.99), (19.08, 72.88), (50.11, 8.68)]
NOWHERE = [None, None, None]


def ask(
    peers: np.ndarray, data: np.ndarray, own: RegionId = DEN, places=NOWHERE
) -> dict[tuple[str, str], Rejection]:
    names = [f"b{k}" for k in range(data.shape[1])]
    found = judge(rows_of(REGIONS, peers, data), own, REGIONS, names, places)
    return {(each.region, each.target.name): each for each in found}


def changed(array: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    out = array.copy()
    out[row, column] = value
    return out


@pytest.mark.parametrize("own", REGIONS)
@pytest.mark.parametrize("places", [PLACES, NOWHERE])
def test_nobody_is_accused_of_the_truth(own: RegionId, places) -> None:
    assert ask(RTT, DB, own, places) == {}


def test_a_database_is_not_near_who_is_nearer_to_us_than_it() -> None:
    found = ask(RTT, changed(DB, 2, 0, 0.001))
    assert set(found) == {("fra", "b0")}
    rejection = found["fra", "b0"]
    assert rejection.claimed == 0.001
    assert rejection.is_proven
    # Mumbai is 0.5 ms from it and 117 ms from Frankfurt.
    assert rejection.bound == pytest.approx((0.117 - 0.010) / 1.5 - 0.0005)
    assert rejection.fallback == pytest.approx(0.136 + 0.2295)  # no better than from here


def test_light_proves_what_triangles_allow() -> None:
    # From Mumbai's side, with positions: 5 ms to a database that is 1 ms from Mumbai.
    claims = np.array([[math.nan], [0.001], [0.005]])
    unknown = changed(changed(RTT, 1, 2, math.nan), 2, 1, math.nan)
    assert ask(unknown, claims, BOM) == {}
    # One voice is not enough while it may be the liar, and Mumbai's counts once here: a database
    # that is near itself can have a twin elsewhere, which costs nobody anything.
    assert ask(unknown, claims, BOM, PLACES) == {}
    claims[0, 0] = 0.2295
    assert set(ask(unknown, claims, DEN, PLACES)) == {("fra", "b0")}


def test_a_database_that_is_answered_everywhere_accuses_nobody() -> None:
    everywhere = np.full((3, 1), 0.002)
    for own in REGIONS:
        assert ask(RTT, everywhere, own) == {}


def test_a_claim_that_turns_traffic_away_is_the_claimers_own_affair() -> None:
    assert ask(RTT, changed(DB, 2, 0, 30.0)) == {}


def test_a_liar_that_calls_a_database_far_accuses_nobody_near_it() -> None:
    assert ask(RTT, changed(DB, 2, 0, 30.0), BOM) == {}
    assert ask(changed(RTT, 2, 1, 0.0001), DB, DEN).keys() <= {("fra", "bom")}


def test_what_this_node_measured_outweighs_the_claim_of_the_other_end() -> None:
    found = ask(changed(RTT, 2, 0, 0.001), DB)
    assert set(found) == {("fra", "den")}
    assert found["fra", "den"].fallback == 0.136
    assert found["fra", "den"].is_proven


def test_of_two_strangers_that_contradict_each_other_the_longer_time_counts() -> None:
    found = ask(changed(RTT, 2, 1, 0.020), DB)
    assert set(found) == {("fra", "bom")}
    assert found["fra", "bom"].fallback == 0.117
    assert not found["fra", "bom"].is_proven


def test_a_pair_that_one_end_measured_needs_witnesses() -> None:
    regions = [RegionId(name) for name in "abcd"]
    # b is far from everybody, who are near each other; b alone tells about b and d.
    rtt = np.full((4, 4), 0.020)
    rtt[1, :] = rtt[:, 1] = 0.200
    rtt[3, 1], rtt[1, 3] = math.nan, 0.002
    found = judge(rows_of(regions, rtt, np.empty((4, 0))), regions[0], regions, [], [None] * 4)
    assert [(each.region, each.target) for each in found] == [
        ("b", Target(TargetKind.PEER, RegionId("d")))
    ]
    assert math.isnan(found[0].fallback)
    rtt[1, 3] = 0.190
    assert judge(rows_of(regions, rtt, np.empty((4, 0))), regions[0], regions, [], [None] * 4) == []


def test_coordinates_are_one_more_witness() -> None:
    ids, rtt = load_topology("12")
    coordinates = fit_coordinates(rtt, seed=1)
    # Quincy claims to be near London; of the others Cheyenne alone measured both.
    cheyenne, quincy, london = 1, 5, 7
    claims = np.full(rtt.shape, math.nan)
    claims[cheyenne] = rtt[cheyenne]
    claims[quincy, london] = 0.001
    rows = rows_of(ids, claims, np.empty((12, 0)))
    places = [None] * 12
    assert judge(rows, ids[0], ids, [], places) == []
    found = judge(rows, ids[0], ids, [], places, coordinates)
    assert [(each.region, each.target.name) for each in found] == [(ids[quincy], ids[london])]


def test_a_position_that_our_own_rtt_contradicts_is_a_mistake_and_no_evidence() -> None:
    places = [PLACES[0], PLACES[1], (-33.9, 151.2)]  # Frankfurt is not in Sydney
    assert ask(RTT, DB, DEN, places) == {}


def test_regions_without_rows_and_unknown_ones_are_left_out() -> None:
    rows = rows_of(REGIONS, RTT, DB)
    del rows[BOM]
    rows[RegionId("elsewhere")] = rows[FRA]
    assert judge(rows, DEN, REGIONS, ["b0"], NOWHERE) == []
    assert judge(rows, RegionId("elsewhere"), REGIONS, ["b0"], NOWHERE) == []
    assert judge({}, DEN, [DEN], [], [None]) == []


@pytest.mark.parametrize(
    ("name", "most"), [("12", 0.0), ("48_azure", 0.0004), ("60_multicloud", 0.0004)]
)
@pytest.mark.parametrize("size", [3, 8, 12])
def test_real_networks_are_believed_and_most_lies_are_not(
    name: str, most: float, size: int
) -> None:
    ids, rtt = load_topology(name)
    rng = np.random.default_rng(size)
    alarms = claims = found = lies = 0
    for _ in range(40):
        chosen = rng.choice(len(ids), size, replace=False)
        regions, peers = [ids[i] for i in chosen], rtt[np.ix_(chosen, chosen)]
        data = np.maximum(peers, 0.0005)  # a backend in every region
        backends, places = [f"b{k}" for k in range(size)], _places(name, regions)
        alarms += len(judge(rows_of(regions, peers, data), regions[0], regions, backends, places))
        claims += (size - 1) * (2 * size - 1)
        lie = data.copy()
        lie[1] = np.minimum(lie[1], 0.001)
        rejected = judge(rows_of(regions, peers, lie), regions[0], regions, backends, places)
        assert {each.region for each in rejected if each.is_proven} <= {regions[1]} or alarms
        found += sum(data[1, int(each.target.name[1:])] > 0.05 for each in rejected)
        lies += int((data[1] > 0.05).sum())
    assert alarms <= most * claims + 1
    assert found >= (0.5 if size == 3 else 0.85) * lies


def _places(name: str, regions: list[RegionId]) -> list[tuple[float, float] | None]:
    with (DATA / "topologies.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["topology"] == name]
    known = {row["id"]: (float(row["lat"]), float(row["lon"])) for row in rows}
    return [known.get(region) for region in regions]
