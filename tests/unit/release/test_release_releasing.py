"""What serves: promoted, rolled out by a share, rolled back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.errors import ApiError, Kind
from onetrip.release.releasing import roll_back, roll_out
from support.releases import World, catalog


def addresses(world: World) -> list[str]:
    return [str(instance.endpoint) for instance in world.production.instances]


def test_promoted_one_serves_instead_of_what_the_configuration_says():
    world = World()
    assert addresses(world) == ["10.9.0.1:9000"]
    id = world.deploy()
    assert addresses(world) == ["10.9.0.1:9000"]
    world.promote(id)
    assert (addresses(world), world.production.deployment) == (["10.0.0.1:9000"], id)
    assert world.production.hosts == ("shop.test", "shop.apps.test")


def test_share_makes_a_candidate_and_all_of_it_makes_it_current():
    world = World()
    old, new = world.deploy("10.0.0.1:1"), world.deploy("10.0.0.2:1")
    world.promote(old)
    world.promote(new, share=0.25)
    production = world.production
    assert addresses(world) == ["10.0.0.1:1"]
    assert production.candidate is not None
    assert (production.candidate.variant, production.candidate_share) == (new, 0.25)
    assert production.candidate.site != production.site
    world.promote(new, share=0.0)
    assert world.production.candidate is None
    world.promote(new)
    assert (addresses(world), world.production.candidate) == (["10.0.0.2:1"], None)


def test_rollback_goes_one_back_each_time_and_to_the_configuration_last():
    world = World()
    one, two = world.deploy("10.0.0.1:1"), world.deploy("10.0.0.2:1")
    world.promote(one)
    world.promote(two)
    for expected in (one, ""):
        target, rows = roll_back(world.moment, "shop", "production", None)
        world.take(rows)
        assert target == expected
    assert addresses(world) == ["10.9.0.1:9000"]
    with pytest.raises(ApiError, match="nothing served production before"):
        roll_back(world.moment, "shop", "production", None)


def test_rollback_ends_a_rollout_and_can_name_its_goal():
    world = World()
    one, two, three = (world.deploy(f"10.0.0.{n}:1") for n in (1, 2, 3))
    world.promote(one)
    world.promote(two)
    world.promote(three, share=0.5)
    target, rows = roll_back(world.moment, "shop", "production", one)
    world.take(rows)
    assert (target, world.production.candidate, addresses(world)) == (one, None, ["10.0.0.1:1"])


def test_rollback_keeps_newer_ones_from_promoting_themselves():
    world = World()
    one, _ = world.deploy("10.0.0.1:1"), world.deploy("10.0.0.2:1")
    world.promote(one)
    world.take(roll_back(world.moment, "shop", "production", "")[1])
    newest = max(d.record.number for d in world.moment.deployments("shop"))
    assert world.moment.release("shop", "production").number == newest


@pytest.mark.parametrize("ready", [False, None])
def test_only_what_was_found_ready_can_serve(ready):
    world = World()
    id = world.deploy(ready=ready)
    for plan in (
        lambda: roll_out(world.moment, "shop", "production", id, 1.0),
        lambda: roll_back(world.moment, "shop", "production", id),
    ):
        with pytest.raises(ApiError, match="not ready") as refusal:
            plan()
        assert refusal.value.kind is Kind.CONFLICT


def test_deployment_of_another_environment_is_refused():
    world = World()
    id = world.deploy(branch="fix")
    with pytest.raises(ApiError, match="is for preview, not production"):
        roll_out(world.moment, "shop", "production", id, 1.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_out_of_range_is_refused(share):
    world = World()
    id = world.deploy()
    with pytest.raises(ApiError, match=r"share is .* must be in 0\.\.1"):
        roll_out(world.moment, "shop", "production", id, share)


def test_share_of_nothing_is_refused():
    world = World(base=catalog(with_instances=False))
    id = world.deploy()
    with pytest.raises(ApiError, match="serves nothing yet"):
        roll_out(world.moment, "shop", "production", id, 0.5)
    world.promote(id)
    with pytest.raises(ApiError, match="nothing served production before"):
        roll_back(world.moment, "shop", "production", None)


def test_newer_configuration_wins_over_what_was_promoted():
    world = World()
    world.promote(world.deploy())
    project = world.base.projects["shop"]
    production = replace(project.environments["production"], deployment="v2")
    shop = replace(project, environments={"production": production})
    world.base = replace(world.base, projects={"shop": shop})
    assert (addresses(world), world.production.deployment) == (["10.9.0.1:9000"], "v2")
