"""Declared things of a node that does not exist: each deployment is ready once it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Catalog
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import RegionId, Topology
from onetrip.release.catalog import Known, catalog_in_force
from onetrip.release.moment import Author, Moment
from onetrip.release.records import CheckRecord, DeploymentRecord, decode
from onetrip.release.registry import Registry
from onetrip.release.releasing import roll_out
from onetrip.release.status import check_name, checking_regions
from onetrip.release.terms import Terms, parse_allowed
from support.releases import NOW

TERMS = Terms(domain="apps.example.com", allow=(parse_allowed("10.0.0.0/8", "allow"),), keep=5)


@dataclass(frozen=True)
class FakeBundle:
    """A bundle that was kept."""

    digest: str
    files: int = 3
    size: int = 4096


class FakeReleases:
    """Implements `control.view.ReleaseView`.

    Args:
        apply: told of every catalog that is in force from now on.
    """

    max_assets = 1024 * 1024

    def __init__(
        self,
        base: Catalog,
        topology: Topology,
        region: RegionId,
        apply: Callable[[Catalog], None],
    ) -> None:
        self._base = base
        self._topology = topology
        self._region = region
        self._apply = apply
        self._bundles: set[str] = set()
        self.registry = Registry()
        self.failing: frozenset[str] = frozenset()
        """Branches whose deployments fail."""

    @property
    def known(self) -> Known:
        """What is in force."""
        find = lambda digest: f"/srv/{digest}" if digest in self._bundles else None  # noqa: E731
        return Known(self._base, self.registry, TERMS, self._topology, find)

    def author(self, name: str) -> Author:
        """Return the author of a change."""
        return Author(self._region, NOW, name)

    async def commit(self, rows: Sequence[Resource]) -> None:
        """Put rows in force, find their deployments ready, and promote them."""
        self.registry.merge(rows)
        for row in rows:
            if row.key.kind is ResourceKind.DEPLOYMENT and not row.is_gone:
                self._settle(row)
        self._apply(catalog_in_force(self.known))

    async def keep_assets(self, data: bytes) -> FakeBundle:
        """Keep a bundle of anything that begins as gzip does."""
        if not data.startswith(b"\x1f\x8b"):
            raise ApiError("bundle is no gzipped tar", field="body")
        if len(data) > self.max_assets:
            raise ApiError("bundle is too large", kind=Kind.BODY_TOO_LARGE)
        digest = sha256(data).hexdigest()
        self._bundles.add(digest)
        return FakeBundle(digest)

    def _settle(self, row: Resource) -> None:
        record = decode(row, DeploymentRecord)
        content, (_, project, id) = record.content, row.key
        is_ready = content.branch not in self.failing
        check = CheckRecord(is_ready, "" if is_ready else "10.0.0.1:9000: answers 500")
        moment = Moment(self.known, self.author(""))
        for region in checking_regions(content, self._topology):
            name = check_name(id, region)
            self.registry.merge([moment.row(ResourceKind.CHECK, project, name, check)])
        if is_ready and record.promotes:
            self.registry.merge(roll_out(moment, project, content.environment, id, 1.0))
