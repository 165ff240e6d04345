"""The catalog in force: hosts, variants, files, and what the configuration does not permit."""

from __future__ import annotations

from dataclasses import replace

from onetrip.model.resource import Resource, ResourceKey, ResourceKind
from onetrip.proxy.router import Routing
from onetrip.release.records import CheckRecord, Content, DeploymentRecord, encode
from onetrip.release.terms import Terms, parse_allowed
from support.releases import BOM, DATE, DEN, World

DIGEST = "ab" * 32


def leads_to(world: World, host: str) -> tuple[str, str] | None:
    match = Routing.build(world.catalog).match(b"GET", host.encode(), b"/x")
    if match is None:
        return None
    return match.environment.id.environment, match.environment.deployment


def test_nothing_declared_leaves_the_configuration_as_it_is():
    world = World()
    assert world.catalog is world.base


def test_hosts_of_a_deployment_and_its_branch():
    world = World()
    one = world.deploy("10.0.0.1:1", branch="fix/api")
    two = world.deploy("10.0.0.2:1", branch="fix/api")
    assert leads_to(world, f"{one}.shop.apps.test") == ("preview", one)
    assert leads_to(world, f"{two}.shop.apps.test") == ("preview", two)
    assert leads_to(world, "fix-api.shop.apps.test") == ("preview", two)
    assert leads_to(world, "shop.test") == ("production", "v1")
    assert leads_to(world, "shop.apps.test") == ("production", "v1")
    assert leads_to(world, "none.shop.apps.test") is None


def test_branch_stays_with_the_newest_one_that_can_serve():
    world = World()
    one = world.deploy("10.0.0.1:1", branch="fix/api")
    world.deploy("10.0.0.2:1", branch="fix/api", ready=False)
    world.deploy("10.0.0.3:1", branch="fix/api", ready=None)
    assert leads_to(world, "fix-api.shop.apps.test") == ("preview", one)


def test_variants_share_what_is_learned_with_their_environment():
    world = World()
    one = world.deploy("10.0.0.1:1", branch="fix")
    routing = Routing.build(world.catalog)
    match = routing.match(b"GET", f"{one}.shop.apps.test".encode(), b"/orders")
    assert match is not None
    key = routing.settle(match, 200)
    assert (str(key.environment), key.route) == ("shop/preview", "/orders")
    again = routing.match(b"GET", b"fix.shop.apps.test", b"/orders")
    assert again is not None
    assert not again.is_tentative


def test_configured_host_is_never_taken():
    world = World()
    project = world.base.projects["shop"]
    hosts = ("fix.shop.apps.test", "shop.apps.test")
    production = replace(project.environments["production"], hosts=hosts)
    shop = replace(project, environments={"production": production})
    world.base = replace(world.base, projects={"shop": shop})
    world.deploy(branch="fix")
    assert leads_to(world, "fix.shop.apps.test") == ("production", "v1")


def test_peer_that_tells_of_other_addresses_moves_nothing():
    world = World()
    content = Content("production", DATE, instances={"den": ["192.0.2.1:80", "10.0.0.1:80"]})
    body, check = encode(DeploymentRecord(content, 1)), encode(CheckRecord(True))
    rows = [
        Resource(ResourceKey(ResourceKind.DEPLOYMENT, "shop", "0" * 10), 1, BOM, 0.0, body),
        Resource(ResourceKey(ResourceKind.CHECK, "shop", "0" * 10 + ".den"), 1, BOM, 0.0, check),
    ]
    world.take(rows)
    world.promote("0" * 10)
    assert [str(i.endpoint) for i in world.production.instances] == ["10.0.0.1:80"]
    world.terms = Terms(allow=(parse_allowed("10.0.0.0/24:81", "allow"),))
    assert world.production.instances == ()


def test_rows_that_cannot_be_read_are_left_out():
    world = World()
    id = world.deploy()
    rows = [
        Resource(
            ResourceKey(kind, "shop" if kind is not ResourceKind.DOMAIN else "", name),
            9,
            DEN,
            0.0,
            b'{"none":1}',
        )
        for kind, name in (
            (ResourceKind.DEPLOYMENT, "1" * 10),
            (ResourceKind.RELEASE, "production"),
            (ResourceKind.BINDING, "production.db"),
            (ResourceKind.DOMAIN, "x.test"),
        )
    ]
    world.take(rows)
    assert world.production.bindings == {"db": "db"}
    assert leads_to(world, f"{id}.shop.apps.test") == ("production", id)


def test_files_are_served_as_the_compatibility_date_says():
    world = World(bundles={DIGEST})
    for date, is_clean in (("2026-11-24", False), ("2026-11-25", True)):
        id = world.deploy("", assets=DIGEST, compatibility_date=date)
        world.promote(id)
        assets = world.production.assets
        assert assets is not None
        assert (assets.directory, assets.is_clean, assets.is_alone) == (
            f"/srv/{DIGEST}",
            is_clean,
            True,
        )


def test_files_that_are_not_here_are_not_served():
    world = World(bundles={DIGEST})
    world.promote(world.deploy("10.0.0.1:1", assets=DIGEST))
    world.bundles.clear()
    assert world.production.assets is None
