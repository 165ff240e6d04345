"""What a node can probe: its peers, backends, and instances; a pure table from the model.

Where every region is probed, that is all of them: direct forwarding and failover need to know
whether instances of other regions live, and each is one target more. Where a node probes a choice
of its peers (`probe/peers`), the node of each region probes what is there: the backends that its
environments use, and its instances. Those of a region that cannot tell, because it has no node or
shares nothing, come with the region as a peer does; so do those that requests go to directly. An
endpoint that several environments share is probed once.
"""

from __future__ import annotations

from collections.abc import Iterable

from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    Forwarding,
    Instance,
)
from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.probe.base import ProbeSpec

PING_PATH = "/.well-known/onetrip/ping"
"""Answered by every node itself (RFC 8615 for the prefix)."""


class SpecTable:
    """What the node of one region probes, by the regions it chooses.

    Attributes:
        own: probed whatever is chosen, where the node chooses.
        remote: probed where that region is chosen; every region that can be.
    """

    def __init__(self, topology: Topology, catalog: Catalog, own_region: RegionId) -> None:
        self._topology = topology
        self._catalog = catalog
        self._region = own_region
        self.own: list[ProbeSpec] = []
        self.remote: dict[RegionId, list[ProbeSpec]] = {
            region.id: [_peer_spec(region)]
            for region in topology.regions.values()
            if region.id != own_region and region.proxy is not None
        }
        used: set[str] = set()
        for environment in catalog.sites():
            self._add(environment)
            if any(i.region == own_region for i in environment.instances):
                used.update(environment.bindings.values())
        for name, backend in catalog.backends.items():
            self.own += _backend_specs(backend) if name in used else []

    def specs(self, chosen: Iterable[RegionId]) -> list[ProbeSpec]:
        """Return the probes of a node that chose some of the other regions."""
        remote = (spec for region in chosen for spec in self.remote.get(region, ()))
        return _unique([*self.own, *remote])

    def _add(self, environment: Environment) -> None:
        is_direct = self._catalog.policy_of(environment.id).forwarding is Forwarding.DIRECT
        for instance in environment.instances:
            region = self._topology.regions.get(instance.region)
            if instance.region == self._region:
                self.own.append(instance_spec(environment, instance))
            elif is_direct or region is None or region.proxy is None or region.peer is None:
                specs = self.remote.setdefault(instance.region, [])
                specs.append(instance_spec(environment, instance))


def specs_for(topology: Topology, catalog: Catalog, own_region: RegionId) -> list[ProbeSpec]:
    """Return the probes of a node in `own_region` that probes everything, in a stable order."""
    found = [
        _peer_spec(region)
        for region in topology.regions.values()
        if region.id != own_region and region.proxy is not None
    ]
    for backend in catalog.backends.values():
        found += _backend_specs(backend)
    for environment in catalog.sites():
        found += [
            instance_spec(environment, instance)
            for instance in environment.instances
            if not instance.is_stand_in
        ]
    return _unique(found)


def instance_target(instance: Instance) -> Target:
    """Return the target that stands for an instance."""
    return Target(TargetKind.INSTANCE, str(instance.endpoint))


def _unique(specs: Iterable[ProbeSpec]) -> list[ProbeSpec]:
    """Return the first of each target."""
    found: dict[Target, ProbeSpec] = {}
    for spec in specs:
        found.setdefault(spec.target, spec)
    return list(found.values())


def _peer_spec(region: Region) -> ProbeSpec:
    assert region.proxy is not None
    return ProbeSpec(
        target=Target(TargetKind.PEER, region.id),
        kind=BackendKind.HTTP,
        endpoint=region.proxy,
        path=PING_PATH,
        host_header=str(region.proxy),
    )


def _backend_specs(backend: Backend) -> list[ProbeSpec]:
    return [_backend_spec(backend, name, at) for name, at in backend.addresses.items()]


def _backend_spec(backend: Backend, name: str, endpoint: Endpoint) -> ProbeSpec:
    return ProbeSpec(
        target=Target(TargetKind.BACKEND, name),
        kind=backend.kind,
        endpoint=endpoint,
        path=backend.probe_path,
        host_header=endpoint.tls_name or str(endpoint),
        tls=backend.tls,
        ca_file=backend.ca_file,
    )


def instance_spec(environment: Environment, instance: Instance) -> ProbeSpec:
    """Return the health check of an instance."""
    host = environment.hosts[0] if environment.hosts else str(instance.endpoint)
    return ProbeSpec(
        target=instance_target(instance),
        kind=BackendKind.HTTP,
        endpoint=instance.endpoint,
        path=environment.health_path,
        # `*.name` matches any one label; a probe has to choose one.
        host_header=host.replace("*", "probe", 1),
        is_health_check=True,
        needs_success=environment.needs_healthy_answer,
    )
