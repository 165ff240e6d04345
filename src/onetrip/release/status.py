"""How the deployments of a project are: read from its rows, never kept anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from onetrip.errors import OnetripError
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import RegionId, Topology
from onetrip.release.naming import branch_label
from onetrip.release.records import (
    CheckRecord,
    Content,
    DeploymentRecord,
    ReleaseRecord,
    decode,
)
from onetrip.release.registry import Registry

PRODUCTION, PREVIEW = "production", "preview"
"""Environments that every project has."""


class DeploymentStatus(Enum):
    """How far a deployment has come."""

    CHECKING = "checking"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment with what the nodes found.

    Attributes:
        checks: by region; None where the node has not told yet.
        origin: region whose node took it; that node promotes it.
        at: when it was made, Unix time, s.
    """

    project: str
    id: str
    record: DeploymentRecord
    checks: dict[RegionId, CheckRecord | None]
    origin: RegionId
    at: float

    @property
    def content(self) -> Content:
        """What it is made of."""
        return self.record.content

    @property
    def status(self) -> DeploymentStatus:
        """How far it has come; ready is where every region has found it so."""
        checks = self.checks.values()
        if any(check is not None and not check.is_ready for check in checks):
            return DeploymentStatus.FAILED
        if any(check is None for check in checks):
            return DeploymentStatus.CHECKING
        return DeploymentStatus.READY

    @property
    def is_ready(self) -> bool:
        """Tell whether it can serve."""
        return self.status is DeploymentStatus.READY

    @property
    def order(self) -> tuple[int, float, str]:
        """Order in which the deployments of a project were made."""
        return (self.record.number, self.at, self.id)


def checking_regions(content: Content, topology: Topology) -> list[RegionId]:
    """Return the regions that have to find a deployment ready.

    Files have to be at every node, instances reachable in their regions.
    """
    return [
        region.id
        for region in topology.regions.values()
        if content.instances.get(region.id)
        or (content.assets and (region.proxy is not None or len(topology.regions) == 1))
    ]


def deployments(registry: Registry, project: str, topology: Topology) -> list[Deployment]:
    """Return the deployments of a project, newest first; rows that cannot be read are left out."""
    found = (
        _deployment(registry, row, topology)
        for row in registry.of(ResourceKind.DEPLOYMENT, project)
    )
    return sorted((d for d in found if d is not None), key=lambda d: d.order, reverse=True)


def find_deployment(
    registry: Registry, project: str, id: str, topology: Topology
) -> Deployment | None:
    """Return one deployment."""
    row = registry.get(ResourceKind.DEPLOYMENT, project, id)
    return None if row is None else _deployment(registry, row, topology)


def release_of(registry: Registry, project: str, environment: str, base: str) -> ReleaseRecord:
    """Return what serves an environment, as far as rows tell.

    Args:
        base: digest of what the configuration says.
    """
    row = registry.get(ResourceKind.RELEASE, project, environment)
    if row is not None:
        try:
            record = decode(row, ReleaseRecord)
        except OnetripError:
            record = ReleaseRecord()
        if record.base == base:
            return record
    return ReleaseRecord(base=base)


def newest_of_branches(found: Iterable[Deployment]) -> dict[str, Deployment]:
    """Return the newest deployment that can serve, by the label of its branch."""
    newest: dict[str, Deployment] = {}
    for deployment in found:
        label = branch_label(deployment.content.branch)
        if label and deployment.is_ready:
            known = newest.get(label)
            if known is None or deployment.order > known.order:
                newest[label] = deployment
    return newest


def check_name(id: str, region: str) -> str:
    """Return the name of the row of a check."""
    return f"{id}.{region}"


def _deployment(registry: Registry, row: Resource, topology: Topology) -> Deployment | None:
    try:
        record = decode(row, DeploymentRecord)
    except OnetripError:
        return None
    project, id = row.key.project, row.key.name
    checks: dict[RegionId, CheckRecord | None] = {}
    for region in checking_regions(record.content, topology):
        check = registry.get(ResourceKind.CHECK, project, check_name(id, region))
        try:
            checks[region] = decode(check, CheckRecord) if check is not None else None
        except OnetripError:
            checks[region] = None
    return Deployment(project, id, record, checks, row.origin, row.at)
