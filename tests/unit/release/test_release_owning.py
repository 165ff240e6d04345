"""Projects, bindings and domains that are declared at run time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.errors import ApiError, Kind
from onetrip.release import owning
from support.releases import World


def test_project_has_both_environments_and_goes_with_everything():
    world = World()
    world.take(owning.create_project(world.moment, "blog"))
    assert list(world.catalog.projects["blog"].environments) == ["production", "preview"]
    world.take(owning.bind(world.moment, "blog", "preview", "db", "db"))
    world.take(owning.add_domain(world.moment, "blog", "production", "blog.test")[1])
    assert world.catalog.projects["blog"].environments["production"].hosts[0] == "blog.test"
    world.take(owning.delete_project(world.moment, "blog"))
    assert "blog" not in world.catalog.projects
    with pytest.raises(ApiError, match="no project 'blog'"):
        world.moment.project("blog")


@pytest.mark.parametrize(
    ("name", "kind"), [("shop", Kind.CONFLICT), ("Blog", Kind.INVALID), ("", Kind.INVALID)]
)
def test_name_that_cannot_be_is_refused(name, kind):
    with pytest.raises(ApiError) as refusal:
        owning.create_project(World().moment, name)
    assert (refusal.value.kind, refusal.value.field) == (kind, "name")


def test_configured_project_is_not_deleted_here():
    with pytest.raises(ApiError, match="is in the configuration") as refusal:
        owning.delete_project(World().moment, "shop")
    assert refusal.value.kind is Kind.CONFLICT


def test_binding_counts_until_the_configuration_says_something_else():
    world = World()
    world.take(owning.bind(world.moment, "shop", "production", "db", "other"))
    assert world.production.bindings == {"db": "other"}
    project = world.base.projects["shop"]
    production = replace(project.environments["production"], bindings={"db": "other2"})
    shop = replace(project, environments={"production": production})
    world.base = replace(world.base, projects={"shop": shop})
    assert world.production.bindings == {"db": "other2"}


def test_binding_is_taken_away_and_comes_back():
    world = World()
    world.take(owning.bind(world.moment, "shop", "production", "db", ""))
    assert world.production.bindings == {}
    with pytest.raises(ApiError, match="no binding 'db'") as refusal:
        owning.bind(world.moment, "shop", "production", "db", "")
    assert refusal.value.kind is Kind.NOT_FOUND
    world.take(owning.bind(world.moment, "shop", "production", "db", "db"))
    assert world.production.bindings == {"db": "db"}


def test_bindings_are_bounded():
    world = World()
    for number in range(7):
        world.take(owning.bind(world.moment, "shop", "production", f"b{number}", "other"))
    with pytest.raises(ApiError, match="9 bindings exceed limit of 8"):
        owning.bind(world.moment, "shop", "production", "b9", "other")


def test_domain_belongs_to_one_project_of_the_cluster():
    world = World()
    world.take(owning.create_project(world.moment, "blog"))
    host, rows = owning.add_domain(world.moment, "shop", "production", "WWW.Shop.example.")
    world.take(rows)
    assert host == "www.shop.example"
    assert owning.add_domain(world.moment, "shop", "production", host) == (host, [])
    for project, taken in (("blog", host), ("blog", "shop.test"), ("blog", "x.shop.apps.test")):
        with pytest.raises(ApiError) as refusal:
            owning.add_domain(world.moment, project, "production", taken)
        assert (refusal.value.kind, refusal.value.field) == (Kind.CONFLICT, "host")
    world.take(owning.remove_domain(world.moment, "shop", host))
    assert owning.add_domain(world.moment, "blog", "production", host)[1]


@pytest.mark.parametrize("host", ["localhost", "a b.test", "10.0.0.1", "-a.test", "*", "a..test"])
def test_what_is_no_host_name_is_refused(host):
    with pytest.raises(ApiError, match="host is") as refusal:
        owning.add_domain(World().moment, "shop", "production", host)
    assert refusal.value.field == "host"


def test_domain_of_nobody_cannot_be_removed():
    with pytest.raises(ApiError, match=r"no domain 'x\.test' of shop"):
        owning.remove_domain(World().moment, "shop", "x.test")
