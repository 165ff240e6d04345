"""The catalog in force: what the configuration says, with what was declared at run time.

Pure. The configuration wins every conflict about a host name, and no instance counts that the
configured terms do not permit, whoever told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from onetrip.errors import ConfigError, OnetripError
from onetrip.model.catalog import Catalog, Environment, EnvironmentId, Instance, Policy, Project
from onetrip.model.compatibility import CLEAN_URLS, has
from onetrip.model.edge import Assets
from onetrip.model.resource import ResourceKind
from onetrip.model.topology import HttpProtocol, RegionId, Topology, parse_endpoint
from onetrip.release.naming import host_of, production_host
from onetrip.release.records import BindingRecord, Content, DomainRecord, decode
from onetrip.release.registry import Registry
from onetrip.release.status import (
    PREVIEW,
    PRODUCTION,
    Deployment,
    deployments,
    newest_of_branches,
    release_of,
)
from onetrip.release.terms import Terms

FindAssets = Callable[[str], str | None]
"""Returns the folder of a bundle of files; None while this node does not have it."""

Owners = dict[tuple[str, str], EnvironmentId]
"""Who has a host and path."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a catalog is put together from.

    Attributes:
        base: what the configuration says.
    """

    base: Catalog
    registry: Registry
    terms: Terms
    topology: Topology
    find_assets: FindAssets


def catalog_in_force(known: Known) -> Catalog:
    """Return the configured catalog with everything that was declared besides."""
    registry, base = known.registry, known.base
    domains = _domains(registry)
    names = registry.projects() | domains.keys()
    if not names:
        return base
    owners = host_owners(base)
    projects = dict(base.projects)
    for name in sorted(names):
        project = find_project(known, name)
        if project is not None:
            projects[name] = _project(project, known, owners, domains.get(name, {}))
    return replace(base, projects=projects)


def find_project(known: Known, name: str) -> Project | None:
    """Return a project as it is without deployments; None if nobody declared it."""
    project = known.base.projects.get(name)
    if project is None:
        if known.registry.get(ResourceKind.PROJECT, name, "") is None:
            return None
        project = Project(name, Policy(), {}, is_declared=True)
    environments = dict(project.environments)
    for label in (PRODUCTION, PREVIEW):
        if label not in environments:
            id = EnvironmentId(name, label)
            environments[label] = Environment(id=id, hosts=(), instances=(), bindings={})
    return replace(project, environments=environments)


def host_owners(base: Catalog) -> Owners:
    """Return who has which host in the configuration."""
    return {
        (host, environment.path_prefix): environment.id
        for environment in base.environments()
        for host in environment.hosts
    }


def base_digest(environment: Environment) -> str:
    """Return a digest of what the configuration deploys, equal on every node."""
    if not environment.instances and not environment.sources and not environment.deployment:
        return ""
    parts = [environment.deployment, *(f"{i.region} {i.endpoint}" for i in environment.instances)]
    parts += [f"{each.region} {each.source}" for each in environment.sources]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def instances_of(content: Content, terms: Terms, topology: Topology) -> tuple[Instance, ...]:
    """Return the instances of a deployment that the terms permit."""
    found: list[Instance] = []
    for region, addresses in content.instances.items():
        for address in addresses if region in topology.regions else ():
            try:
                endpoint = parse_endpoint(address)
            except ConfigError:
                continue
            if terms.permits(endpoint):
                spoken = endpoint.speaking(HttpProtocol(content.protocol))
                found.append(Instance(RegionId(region), spoken))
    return tuple(found)


def _domains(registry: Registry) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for row in registry.of(ResourceKind.DOMAIN):
        try:
            record = decode(row, DomainRecord)
        except OnetripError:
            continue
        environments = found.setdefault(record.project, {})
        environments.setdefault(record.environment, []).append(row.key.name)
    return found


def _project(
    project: Project, known: Known, owners: Owners, domains: Mapping[str, list[str]]
) -> Project:
    found = deployments(known.registry, project.name, known.topology)
    ready = {d.id: d for d in found if d.is_ready}
    environments: dict[str, Environment] = {}
    for label, configured in project.environments.items():
        environment = _bound(configured, known)
        environment = _released(environment, configured, known, ready)
        hosts = _hosts(environment, known.terms, domains.get(label, []))
        environments[label] = replace(
            environment, hosts=(*environment.hosts, *_claim(hosts, environment.id, owners))
        )
    variants = tuple(_variants(environments, known, ready, found, owners))
    return replace(project, environments=environments, variants=variants)


def _bound(environment: Environment, known: Known) -> Environment:
    """Return the environment with the bindings that were made at run time."""
    bindings = dict(environment.bindings)
    start = f"{environment.id.environment}."
    for row in known.registry.of(ResourceKind.BINDING, environment.id.project):
        name = row.key.name.removeprefix(start)
        if not row.key.name.startswith(start):
            continue
        try:
            record = decode(row, BindingRecord)
        except OnetripError:
            continue
        if name in environment.calls or record.base != environment.bindings.get(name, ""):
            continue  # the configuration has spoken since
        bindings.pop(name, None)
        if record.backend in known.base.backends:
            bindings[name] = record.backend
    if bindings == environment.bindings:
        return environment
    # A declared route may count trips of a binding that is gone.
    rules = tuple(
        rule
        if rule.round_trips is None
        else replace(
            rule,
            round_trips={
                b: n for b, n in rule.round_trips.items() if b in bindings or b in environment.calls
            },
        )
        for rule in environment.rules
    )
    return replace(environment, bindings=bindings, rules=rules)


def _released(
    environment: Environment,
    configured: Environment,
    known: Known,
    ready: Mapping[str, Deployment],
) -> Environment:
    """Return the environment with the deployment that serves it, and the one rolled out."""
    id = environment.id
    release = release_of(known.registry, id.project, id.environment, base_digest(configured))
    current = ready.get(release.current)
    if current is not None:
        environment = _deployed(environment, current, known)
    candidate = ready.get(release.candidate)
    if candidate is None or release.share <= 0 or candidate is current:
        return environment
    return replace(
        environment,
        candidate=replace(_deployed(environment, candidate, known), hosts=(), variant=candidate.id),
        candidate_share=release.share,
    )


def deployed(known: Known, deployment: Deployment) -> Environment:
    """Return the environment of a deployment as it would be with it alone."""
    id = EnvironmentId(deployment.project, deployment.content.environment)
    project = find_project(known, deployment.project)
    configured = project.environments.get(id.environment) if project is not None else None
    empty = Environment(id=id, hosts=(), instances=(), bindings={})
    return _deployed(configured or empty, deployment, known)


def _deployed(environment: Environment, deployment: Deployment, known: Known) -> Environment:
    """Return the environment as a deployment serves it."""
    content = deployment.content
    instances = instances_of(content, known.terms, known.topology)
    return replace(
        environment,
        instances=instances,
        sources=(),
        deployment=deployment.id,
        health_path=content.health_path or environment.health_path,
        needs_healthy_answer=content.health_path is not None or environment.needs_healthy_answer,
        capacity=content.capacity if content.capacity is not None else environment.capacity,
        assets=_assets(environment, content, known.find_assets, is_alone=not instances),
    )


def _assets(
    environment: Environment, content: Content, find: FindAssets, *, is_alone: bool
) -> Assets | None:
    directory = find(content.assets) if content.assets else None
    if directory is None:
        return environment.assets if not content.assets else None
    known = environment.assets or Assets("", environment.path_prefix, not_found="404.html")
    return replace(
        known,
        directory=directory,
        is_clean=has(content.compatibility_date, CLEAN_URLS),
        is_alone=is_alone,
    )


def _hosts(environment: Environment, terms: Terms, domains: list[str]) -> list[str]:
    hosts = [host for host in domains if host not in environment.hosts]
    if terms.domain and environment.id.environment == PRODUCTION:
        hosts.append(production_host(environment.id.project, terms.domain))
    return hosts


def _claim(hosts: list[str], id: EnvironmentId, owners: Owners) -> list[str]:
    """Return the hosts that nobody else has, and take them."""
    free = [host for host in dict.fromkeys(hosts) if (host, "/") not in owners]
    owners.update({(host, "/"): id for host in free})
    return free


def _variants(
    environments: Mapping[str, Environment],
    known: Known,
    ready: Mapping[str, Deployment],
    found: list[Deployment],
    owners: Owners,
) -> Iterator[Environment]:
    """Yield each deployment that can serve, at the hosts of its own."""
    domain = known.terms.domain
    if not domain:
        return
    newest = newest_of_branches(found)
    labels: dict[str, list[str]] = {id: [id] for id in ready}
    for label, deployment in newest.items():
        labels[deployment.id].append(label)
    for id, deployment in ready.items():
        environment = environments.get(deployment.content.environment)
        if environment is None:
            continue
        hosts = [host_of(label, deployment.project, domain) for label in labels[id]]
        yield replace(
            _deployed(environment, deployment, known),
            hosts=tuple(_claim(hosts, environment.id, owners)),
            variant=id,
            candidate=None,
            candidate_share=0.0,
            path_prefix="/",
        )
