"""Deployments: made, refused, checked again, kept within a number."""

from __future__ import annotations

import pytest

from onetrip.errors import ApiError, Kind
from onetrip.release.deploying import create_deployment, delete_deployment
from onetrip.release.records import Content
from onetrip.release.status import DeploymentStatus
from support.releases import DATE, World


def plan(world: World, **more: object) -> tuple[str, int]:
    made: dict[str, object] = {
        "environment": "",
        "compatibility_date": DATE,
        "instances": {"den": ["10.0.0.1:9000"]},
    }
    content = Content(**{**made, **more})  # type: ignore[arg-type]
    id, rows = create_deployment(world.moment, "shop", content, promotes=True)
    return id, len(rows)


@pytest.mark.parametrize(
    ("branch", "environment"),
    [("", "production"), ("main", "production"), ("fix/api", "preview"), ("Main", "preview")],
)
def test_branch_decides_about_the_environment(branch, environment):
    world = World()
    id = world.deploy(branch=branch)
    assert world.moment.deployment("shop", id).content.environment == environment


def test_same_content_is_the_same_deployment():
    world = World()
    id = world.deploy()
    assert plan(world) == (id, 0)
    assert plan(world, commit="abc")[0] != id


def test_failed_one_is_checked_again_by_the_same_order():
    world = World()
    id = world.deploy(ready=False)
    assert world.moment.deployment("shop", id).status is DeploymentStatus.FAILED
    world.take(
        create_deployment(
            world.moment,
            "shop",
            world.moment.deployment("shop", id).content,
            promotes=True,
        )[1]
    )
    assert world.moment.deployment("shop", id).status is DeploymentStatus.CHECKING


@pytest.mark.parametrize(
    ("order", "field", "message"),
    [
        ({"environment": "staging"}, "environment", "one of production, preview"),
        ({"instances": {}}, "instances", "needs instances or assets"),
        ({"instances": {"fra": ["10.0.0.1:1"]}}, "instances", "den, bom"),
        ({"instances": {"den": ["10.0.0.1"]}}, "instances.den[0]", "not host:port"),
        ({"instances": {"den": ["10.0.0.1:1", "192.0.2.1:1"]}}, "instances.den[1]", "outside"),
        ({"instances": {"den": ["app.test:1"]}}, "instances.den[0]", "deployments.allow"),
        ({"instances": {"den": ["10.9.0.1:9000"]}, "protocol": "h2"}, "instances.den[0]", "http1"),
        ({"assets": "0" * 64}, "assets", "upload them first"),
        ({"compatibility_date": "2026-10-31"}, "compatibility_date", "2026-11-01"),
        ({"compatibility_date": "2027-01-01"}, "compatibility_date", "2026-11-25"),
        ({"compatibility_date": "2026-02-30"}, "compatibility_date", "a date"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_planned(order, field, message):
    world = World()
    with pytest.raises(ApiError, match=message) as refusal:
        plan(world, **order)
    assert refusal.value.field == field
    assert len(world.registry) == 0


def test_two_branches_of_one_name_are_refused():
    world = World()
    world.deploy(branch="fix/api")
    with pytest.raises(ApiError, match="would have the host name of branch 'fix/api'") as refusal:
        plan(world, branch="fix-api")
    assert refusal.value.kind is Kind.CONFLICT


def test_oldest_make_room_but_those_in_use_stay():
    world = World()  # keeps three
    current = world.deploy(commit="current")
    world.promote(current)
    branch = world.deploy(commit="branch", branch="fix")
    ids = [world.deploy(commit=f"{n}") for n in range(5)]
    kept = {d.id for d in world.moment.deployments("shop")}
    assert {current, branch} <= kept
    assert kept == {current, branch, *ids[2:]}


def test_one_in_use_is_not_deleted():
    world = World()
    id = world.deploy()
    world.promote(id)
    with pytest.raises(ApiError, match="is in use") as refusal:
        delete_deployment(world.moment, "shop", id)
    assert refusal.value.kind is Kind.CONFLICT
    other = world.deploy(commit="x")
    world.take(delete_deployment(world.moment, "shop", other))
    with pytest.raises(ApiError, match=f"no deployment '{other}'"):
        world.moment.deployment("shop", other)


def test_unknown_project_is_not_found():
    with pytest.raises(ApiError, match="no project 'blog'") as refusal:
        create_deployment(World().moment, "blog", Content("", DATE), promotes=True)
    assert refusal.value.kind is Kind.NOT_FOUND
