"""What a node probes: its peers, every backend, and every instance; a pure list from the model.

Instances of other regions are probed as well, because direct forwarding and failover need to know
whether they live. An endpoint that several environments share is probed once.
"""

from __future__ import annotations

from onetrip.model.catalog import Backend, BackendKind, Catalog, Environment, Instance
from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.probe.base import ProbeSpec

PING_PATH = "/.well-known/onetrip/ping"
"""Answered by every node itself (RFC 8615 for the prefix)."""


def specs_for(topology: Topology, catalog: Catalog, own_region: RegionId) -> list[ProbeSpec]:
    """Return the probes of the node in `own_region`: one for each target, in a stable order."""
    found: dict[Target, ProbeSpec] = {}
    for region in topology.regions.values():
        if region.id != own_region and region.proxy is not None:
            _add(found, _peer_spec(region))
    for backend in catalog.backends.values():
        _add(found, _backend_spec(backend, backend.name, backend.endpoint))
        for replica in backend.replicas:
            _add(found, _backend_spec(backend, replica.name, replica.endpoint))
    for environment in catalog.sites():
        for instance in environment.instances:
            _add(found, instance_spec(environment, instance))
    return list(found.values())


def instance_target(instance: Instance) -> Target:
    """Return the target that stands for an instance."""
    return Target(TargetKind.INSTANCE, str(instance.endpoint))


def _add(found: dict[Target, ProbeSpec], spec: ProbeSpec) -> None:
    found.setdefault(spec.target, spec)


def _peer_spec(region: Region) -> ProbeSpec:
    assert region.proxy is not None
    return ProbeSpec(
        target=Target(TargetKind.PEER, region.id),
        kind=BackendKind.HTTP,
        endpoint=region.proxy,
        path=PING_PATH,
        host_header=str(region.proxy),
    )


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
