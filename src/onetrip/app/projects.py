"""Projects, environments, backends and policies: decoded entries to the catalog they describe.

Every check that needs more than one entry (a region that does not exist, a host claimed twice)
is here. Errors name the key; the caller adds the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from onetrip.app.bindings import build_bindings, check_calls
from onetrip.app.content import with_content
from onetrip.app.limits import build_hedge, with_timeouts
from onetrip.app.named import check_id, endpoint_at, known_region, optional_region
from onetrip.app.replicas import build_replicas
from onetrip.app.residency import Residency, check_residency, is_restricted
from onetrip.app.route_rules import build_rule
from onetrip.app.schema import File
from onetrip.app.schema_projects import (
    BackendEntry,
    DeploymentsEntry,
    EnvironmentEntry,
    PlacementEntry,
    ProjectEntry,
)
from onetrip.errors import ConfigError
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Forwarding,
    Instance,
    Mode,
    Policy,
    Project,
)
from onetrip.model.discovery import InstanceSource, is_source
from onetrip.model.topology import (
    HttpProtocol,
    Region,
    RegionId,
    Topology,
)
from onetrip.release.terms import Terms, parse_allowed


def build_catalog(
    file: File, topology: Topology, folder: Path, secret: str | None = None
) -> Catalog:
    """Return the catalog a checked file describes.

    Args:
        folder: what relative paths are relative to.
        secret: of the cluster.

    Raises:
        ConfigError: the first entry that cannot be used; the message starts with its key.
    """
    backends = {n: _backend(n, entry, topology, folder) for n, entry in file.backends.items()}
    can_deploy = bool(file.deployments.domain or file.deployments.allow)
    projects = {
        name: _project(name, entry, topology, backends, can_deploy=can_deploy)
        for name, entry in file.projects.items()
    }
    projects = with_timeouts(with_content(projects, file, folder), file.proxy.request_timeout)
    if file.data_plane == "envoy":  # which knows no nodes
        for name in (n for n, p in projects.items() if is_restricted(p)):
            raise ConfigError(f"projects.{name}: regions of routes or bindings need no Envoy")
        projects = {name: _direct(project) for name, project in projects.items()}
    catalog = Catalog(projects, backends)
    _check_hosts(catalog)
    _check_protocols(catalog)
    check_calls(catalog)
    if any(project.consistency.mode != "off" for project in file.projects.values()):
        from onetrip.app.consistency import with_consistency  # most nodes do without

        catalog = with_consistency(catalog, file, folder, secret)
    return catalog


def _direct(project: Project) -> Project:
    return replace(project, policy=replace(project.policy, forwarding=Forwarding.DIRECT))


def build_terms(entry: DeploymentsEntry) -> Terms:
    """Return what may be deployed through the API.

    Raises:
        ConfigError: the first value that cannot be used.
    """
    domain = entry.domain.lower().rstrip(".") if entry.domain else ""
    if domain and (len(domain) > 120 or not _HOST.fullmatch(domain) or domain.startswith("*")):
        raise ConfigError(
            f"deployments.domain: {entry.domain!r} is not a host name of at most 120 characters"
        )
    return Terms(
        domain=domain,
        allow=tuple(
            parse_allowed(text, f"deployments.allow[{n}]") for n, text in enumerate(entry.allow)
        ),
        keep=entry.keep,
        production_branch=entry.production_branch,
        check_timeout=entry.check_timeout,
        max_assets=entry.max_assets,
    )


def _backend(name: str, entry: BackendEntry, topology: Topology, folder: Path) -> Backend:
    key = f"backends.{name}"
    check_id(name, key)
    backend = replace(
        _primary(name, entry, folder, key),
        region=optional_region(entry.region, topology.regions, f"{key}.region"),
        replicas=build_replicas(name, entry, topology, key),
    )
    if entry.replication is None:
        return backend
    from onetrip.app.replication_access import build_access  # many nodes do without

    access = build_access(entry.replication, backend.kind, topology, folder, f"{key}.replication")
    return replace(backend, replication=access)


def _primary(name: str, entry: BackendEntry, folder: Path, key: str) -> Backend:
    if entry.url is None and entry.url_env is None:
        if entry.kind is None or entry.address is None:
            raise ConfigError(f"{key}: kind and address are required, or url or url_env")
        endpoint = endpoint_at(entry.address, f"{key}.address")
        return Backend(name, BackendKind(entry.kind), endpoint, entry.probe_path)
    if entry.address is not None:
        raise ConfigError(f"{key}.address: the URL says it already")
    from onetrip.app.backend_urls import parse_url, read_url  # many nodes do without

    place = parse_url(read_url(entry.url, entry.url_env, key), f"{key}.url", folder)
    if entry.kind is not None and entry.kind != place.kind.value:
        raise ConfigError(f"{key}.kind: the URL is one of {place.kind.value}")
    return Backend(name, place.kind, place.endpoint, tls=place.tls, ca_file=place.ca_file)


def _project(
    name: str,
    entry: ProjectEntry,
    topology: Topology,
    backends: Mapping[str, Backend],
    *,
    can_deploy: bool,
) -> Project:
    key = f"projects.{name}"
    check_id(name, key)
    if not entry.environments and not can_deploy:
        raise ConfigError(f"{key}.environments: at least one environment is required")
    environments = {
        label: _environment(
            EnvironmentId(name, label),
            each,
            topology,
            backends,
            f"{key}.environments.{label}",
            can_deploy=can_deploy,
        )
        for label, each in entry.environments.items()
    }
    policy = policy_from(entry.placement, topology.regions, f"{key}.placement")
    project = Project(name, policy, environments, build_hedge(entry.hedge))
    check_residency(project, topology.regions, key)
    return project


def _environment(
    id: EnvironmentId,
    entry: EnvironmentEntry,
    topology: Topology,
    backends: Mapping[str, Backend],
    key: str,
    *,
    can_deploy: bool,
) -> Environment:
    check_id(id.environment, key)
    residency = Residency(entry, topology.regions, key)
    bound = build_bindings(entry.bindings, backends, f"{key}.bindings")
    instances, sources = _instances(entry, topology, f"{key}.instances", can_deploy=can_deploy)
    if not entry.hosts and not can_deploy:
        raise ConfigError(f"{key}.hosts: at least one host is required")
    check_http2(entry.protocol != "http1", f"{key}.protocol")
    return Environment(
        id=id,
        hosts=tuple(_host(h, f"{key}.hosts[{n}]") for n, h in enumerate(entry.hosts)),
        instances=instances,
        sources=sources,
        bindings=bound.backends,
        rules=tuple(
            build_rule(rule, bound.names, residency, f"{key}.routes[{n}]")
            for n, rule in enumerate(entry.routes)
        ),
        deployment=entry.deployment,
        health_path=entry.health_path or "/",
        needs_healthy_answer=entry.health_path is not None,
        path_prefix=entry.path_prefix,
        capacity=entry.capacity,
        request_timeout=entry.request_timeout,
        deny=residency.everywhere,
        reads_nearest=bound.reads_nearest,
        data_deny=residency.of_data(entry.bindings),
        calls=bound.calls,
    )


def _instances(
    entry: EnvironmentEntry, topology: Topology, key: str, *, can_deploy: bool
) -> tuple[tuple[Instance, ...], tuple[InstanceSource, ...]]:
    found: list[Instance] = []
    sources: list[InstanceSource] = []
    protocol = HttpProtocol(entry.protocol)
    for name, texts in entry.instances.items():
        region = known_region(name, topology.regions, f"{key}.{name}")
        addresses = list(enumerate(texts))
        if any(is_source(text) for text in texts):
            from onetrip.app.sources import split_sources  # most nodes do without it

            addresses, more = split_sources(texts, region, protocol, f"{key}.{name}")
            sources += more
        for number, address in addresses:
            endpoint = endpoint_at(address, f"{key}.{name}[{number}]")
            found.append(Instance(region, endpoint.speaking(protocol)))
    if not found and not sources and not can_deploy:
        raise ConfigError(f"{key}: at least one instance is required")
    return tuple(found), tuple(sources)


def policy_from(entry: PlacementEntry, regions: Mapping[RegionId, Region], key: str) -> Policy:
    """Turn a `placement` entry into a policy; `key` is its path for error lines.

    Raises:
        ConfigError: a region that does not exist, or a hint that is not permitted.
    """
    policy = Policy(
        mode=Mode(entry.mode),
        hint=known_region(entry.hint, regions, f"{key}.hint") if entry.hint else None,
        share=entry.share,
        control_ratio=entry.control,
        explore_ratio=entry.explore,
        explore_writes=entry.explore_writes,
        least_gain=entry.least_gain,
        dwell=entry.dwell,
        allow=frozenset(known_region(r, regions, f"{key}.allow") for r in entry.allow),
        deny=frozenset(known_region(r, regions, f"{key}.deny") for r in entry.deny),
        forwarding=Forwarding(entry.forwarding or "node"),
    )
    if policy.hint is not None and not policy.permits(policy.hint):
        raise ConfigError(f"{key}.hint: region {policy.hint!r} is not permitted by allow/deny")
    if not any(policy.permits(r) for r in regions):
        raise ConfigError(f"{key}: allow and deny leave no region")
    return policy


def check_http2(is_wanted: bool, key: str) -> None:
    """Raise `ConfigError` if HTTP/2 is wanted and its package is missing; `key` wants it."""
    if is_wanted and find_spec("h2") is None:
        raise ConfigError(f"{key}: needs the package h2; install onetrip[http2]")


_HOST = re.compile(
    r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]+\]"
)


def _host(text: str, key: str) -> str:
    host = text.lower().rstrip(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ConfigError(f"{key}: {text!r} is not a host name (no scheme, port or path)")
    return host


def _check_protocols(catalog: Catalog) -> None:
    spoken: dict[str, HttpProtocol] = {}
    for environment in catalog.environments():
        for instance in environment.instances:
            endpoint = instance.endpoint
            known = spoken.setdefault(str(endpoint), endpoint.protocol)
            if known is not endpoint.protocol:
                raise ConfigError(
                    f"projects.{environment.id.project}.environments."
                    f"{environment.id.environment}.protocol: {endpoint} is {known.value} elsewhere"
                )


def _check_hosts(catalog: Catalog) -> None:
    owners: dict[tuple[str, str], EnvironmentId] = {}
    for environment in catalog.environments():
        for host in environment.hosts:
            place = (host, environment.path_prefix)
            if place in owners:
                raise ConfigError(
                    f"projects.{environment.id.project}.environments."
                    f"{environment.id.environment}.hosts: {host}{environment.path_prefix} "
                    f"already belongs to {owners[place]}"
                )
            owners[place] = environment.id
