"""Flags of projects: values, reasons and errors; and the same arithmetic as the node's."""

from __future__ import annotations

import pytest
from openfeature.exception import (
    FlagNotFoundError,
    OpenFeatureError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import Reason

from onetrip.model.measure import Arm, MethodClass
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import RegionId
from onetrip.place.arms import assign, unit_hash
from onetrip_openfeature.flags import Toggle, evaluate, takes_part

TOGGLES = {
    "shop": Toggle("smart", 1.0, "bom"),
    "blog": Toggle("off", 0.5),
    "half": Toggle("smart", 0.5),
    "none": Toggle("smart", 0.0),
}


@pytest.mark.parametrize(
    ("key", "kind", "value", "variant"),
    [
        ("shop.placement", bool, True, "smart"),
        ("shop.placement", str, "smart", "smart"),
        ("shop.share", float, 1.0, "1"),
        ("shop.hint", str, "bom", "bom"),
        ("blog.placement", bool, False, "off"),
        ("blog.share", float, 0.0, "0"),
        ("blog.hint", str, "", "none"),
        ("half.share", float, 0.5, "0.5"),
        ("none.placement", str, "off", "off"),
    ],
)
def test_values_that_are_the_same_for_everybody(
    key: str, kind: type, value: object, variant: str
) -> None:
    found = evaluate(TOGGLES, key, kind, None)
    assert (found.value, found.variant, found.reason) == (value, variant, Reason.STATIC)
    assert type(found.value) is kind


@pytest.mark.parametrize(
    ("key", "kind", "error"),
    [
        ("gone.placement", bool, FlagNotFoundError),
        ("shop.colour", str, FlagNotFoundError),
        ("shop", bool, FlagNotFoundError),
        ("", bool, FlagNotFoundError),
        ("shop.placement", float, TypeMismatchError),
        ("shop.share", bool, TypeMismatchError),
        ("shop.hint", bool, TypeMismatchError),
        ("half.placement", bool, TargetingKeyMissingError),
    ],
)
def test_what_cannot_be_told_is_an_error(
    key: str, kind: type, error: type[OpenFeatureError]
) -> None:
    with pytest.raises(error):
        evaluate(TOGGLES, key, kind, None)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_key_takes_part_where_the_node_places_its_request(share: float) -> None:
    den, bom = RegionId("den"), RegionId("bom")
    placement = Placement(Status.PLACED, (bom, den), den, control_ratio=1.0 - share)
    toggles = {"shop": Toggle("smart", share)}
    on = 0
    for number in range(2000):
        key = f"request-{number}"
        found = evaluate(toggles, "shop.placement", bool, key)
        arm, _ = assign(placement, MethodClass.READ, unit_hash(key.encode()))
        assert found.value is (arm is Arm.PLACED)
        assert found.reason is Reason.SPLIT
        on += found.value is True
    assert on == pytest.approx(2000 * share, rel=0.15)


def test_a_growing_share_only_adds_keys() -> None:
    for number in range(500):
        key = f"user-{number}"
        seen = [takes_part(share / 10, key) for share in range(1, 11)]
        assert seen == sorted(seen)
        assert seen[-1]
