"""Where requests run before anything is known of their route."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.estimate.matrix import RttMatrix, build_matrix
from onetrip.model.catalog import EnvironmentId, Mode, Policy
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.placement import Status
from onetrip.model.topology import RegionId
from onetrip.place.defaults import EnvironmentInput, unseen_placements

DEN, NYC, FRA, BOM = REGIONS = tuple(RegionId(r) for r in ("den", "nyc", "fra", "bom"))
RTTS = {NYC: 0.04, FRA: 0.12, BOM: 0.24}


def matrix(*predicted: RegionId) -> RttMatrix:
    row = {
        (t := Target(TargetKind.PEER, r)): RttEstimate(
            t, rtt, rtt, 0.001, 9, 0, 0.0, EstimateState.FRESH
        )
        for r, rtt in RTTS.items()
    }
    found = build_matrix({DEN: row}, REGIONS, (), None)
    flags = np.zeros_like(found.is_predicted)
    flags[0] = [region in predicted for region in REGIONS]
    return replace(found, is_predicted=flags)


def env(name: str, *ready: RegionId, policy: Policy | None = None) -> EnvironmentInput:
    instances = {region: region in ready for region in REGIONS}
    return EnvironmentInput(EnvironmentId(name, "x"), policy or Policy(), (), instances)


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ((BOM, DEN, FRA), (DEN, FRA, BOM)),
        ((BOM, NYC), (NYC, BOM)),
        ((), ()),
    ],
    ids=["the edge first", "then the nearest", "nowhere"],
)
def test_order_is_the_edge_then_the_nearest(
    ready: tuple[RegionId, ...], expected: tuple[RegionId, ...]
) -> None:
    (found,) = unseen_placements(matrix(), DEN, [env("shop", *ready)]).values()
    assert found.regions == expected
    assert (found.status is Status.UNREACHABLE) is (not expected)


def test_a_region_that_was_measured_is_the_default_before_a_nearer_guess() -> None:
    (found,) = unseen_placements(matrix(NYC), DEN, [env("shop", NYC, FRA, BOM)]).values()
    assert found.regions == (FRA, NYC, BOM)


def test_each_environment_gets_what_its_own_policy_says() -> None:
    smart = Policy(mode=Mode.SMART)
    environments = [
        env("plain", DEN, BOM, policy=smart),
        env("same", DEN, BOM, policy=smart),
        env("pinned", DEN, BOM, policy=replace(smart, hint=BOM)),
        env("off", DEN, BOM),
        env("abroad", DEN, BOM, policy=replace(smart, deny=frozenset({DEN}))),
    ]
    found = {id.project: p for id, p in unseen_placements(matrix(), DEN, environments).items()}
    assert found["plain"] is found["same"]
    assert found["plain"].status is Status.ANALYZING
    assert (found["pinned"].status, found["pinned"].regions) == (Status.PINNED, (BOM, DEN))
    assert found["off"].status is Status.OFF
    assert found["abroad"].regions == (BOM,)
