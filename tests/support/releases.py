"""Deployments without a node: what is known, and what is planned against it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Instance,
    Policy,
    Project,
)
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.release.catalog import Known, catalog_in_force
from onetrip.release.deploying import create_deployment
from onetrip.release.moment import Author, Moment
from onetrip.release.records import CheckRecord, Content
from onetrip.release.registry import Registry
from onetrip.release.releasing import roll_out
from onetrip.release.status import check_name, checking_regions
from onetrip.release.terms import Terms, parse_allowed

DEN, BOM = RegionId("den"), RegionId("bom")
DATE = "2026-11-25"
NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC).timestamp()
OLD = Endpoint("10.9.0.1", 9000)
TERMS = Terms(domain="apps.test", allow=(parse_allowed("10.0.0.0/8", "allow"),), keep=3)


def topology(*regions: RegionId) -> Topology:
    """Return regions that have a node each."""
    made = (
        Region(region, region, None, proxy=Endpoint(region, 8080), peer=None)
        for region in regions or (DEN, BOM)
    )
    return Topology({region.id: region for region in made})


def catalog(*, with_instances: bool = True) -> Catalog:
    """Return a configuration with the project shop and the backends db and other."""
    production = Environment(
        id=EnvironmentId("shop", "production"),
        hosts=("shop.test",),
        instances=(Instance(DEN, OLD),) if with_instances else (),
        bindings={"db": "db"},
        deployment="v1" if with_instances else "",
    )
    backends = {
        name: Backend(name, BackendKind.TCP, Endpoint(name, 5432)) for name in ("db", "other")
    }
    return Catalog({"shop": Project("shop", Policy(), {"production": production})}, backends)


@dataclass
class World:
    """What a node knows, and a short way to change it."""

    base: Catalog = field(default_factory=catalog)
    terms: Terms = TERMS
    registry: Registry = field(default_factory=Registry)
    topology: Topology = field(default_factory=topology)
    bundles: set[str] = field(default_factory=set)
    at: float = NOW
    origin: RegionId = DEN

    @property
    def known(self) -> Known:
        """What plans are made against."""
        find = lambda digest: f"/srv/{digest}" if digest in self.bundles else None  # noqa: E731
        return Known(self.base, self.registry, self.terms, self.topology, find)

    @property
    def moment(self) -> Moment:
        """This moment, with a new author."""
        return Moment(self.known, Author(self.origin, self.at, "ci"))

    @property
    def catalog(self) -> Catalog:
        """What is in force."""
        return catalog_in_force(self.known)

    @property
    def production(self) -> Environment:
        """What production is in force."""
        return self.catalog.projects["shop"].environments["production"]

    def take(self, rows: Sequence[Resource]) -> None:
        """Put rows in force."""
        self.at += 1
        self.registry.merge(rows)

    def deploy(
        self, address: str = "10.0.0.1:9000", *, ready: bool | None = True, **more: object
    ) -> str:
        """Make a deployment, have its regions find it ready (or not, or not yet); return its id."""
        made: dict[str, object] = {"environment": "", "compatibility_date": DATE}
        if address:
            made["instances"] = {"den": [address]}
        content = Content(**{**made, **more})  # type: ignore[arg-type]
        id, rows = create_deployment(self.moment, "shop", content, promotes=True)
        self.take(rows)
        if ready is not None:
            self.check(id, content, is_ready=ready)
        return id

    def check(self, id: str, content: Content, *, is_ready: bool) -> None:
        """Have every region tell what it found."""
        for region in checking_regions(content, self.topology):
            record = CheckRecord(is_ready, "" if is_ready else "answers 503")
            name = check_name(id, region)
            self.take([self.moment.row(ResourceKind.CHECK, "shop", name, record)])

    def promote(self, id: str, environment: str = "production", share: float = 1.0) -> None:
        """Have a deployment serve, or get a share."""
        self.take(roll_out(self.moment, "shop", environment, id, share))
