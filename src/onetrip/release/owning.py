"""Plans for what a project owns besides its deployments: itself, its bindings, its domains."""

from __future__ import annotations

from onetrip.errors import ApiError, Kind, OnetripError
from onetrip.model.catalog import Environment
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import is_id, is_public_name
from onetrip.release.catalog import find_project, host_owners
from onetrip.release.moment import Moment, conflict, outside
from onetrip.release.records import BindingRecord, DomainRecord, ProjectRecord, decode, encode

MAX_BINDINGS = 8
"""Bindings of an environment: each is a column of what is learned."""

MAX_DOMAINS = 100
"""Domains of a project that are added at run time."""

MAX_PROJECTS = 10_000

NAME = "1-32 lower-case letters, digits and hyphens"


def create_project(moment: Moment, name: str) -> list[Resource]:
    """Make a project that the configuration does not have.

    Raises:
        ApiError: the name cannot be one, or is taken.
    """
    if not is_id(name):
        raise outside("name", name, NAME)
    if find_project(moment.known, name) is not None:
        raise conflict(f"project {name!r} exists already", "name", name)
    declared = len(moment.registry.projects())
    if declared >= MAX_PROJECTS:
        raise conflict(f"{declared + 1} projects exceed limit of {MAX_PROJECTS}", "name", name)
    return [moment.row(ResourceKind.PROJECT, name, "", ProjectRecord(moment.author.name))]


def delete_project(moment: Moment, name: str) -> list[Resource]:
    """Delete a project that was made at run time, with everything declared about it.

    Raises:
        ApiError: there is none, or the configuration has it.
    """
    project = moment.project(name)
    if not project.is_declared:
        raise conflict(f"project {name!r} is in the configuration; delete it there", "name", name)
    kinds = (
        ResourceKind.PROJECT,
        ResourceKind.DEPLOYMENT,
        ResourceKind.CHECK,
        ResourceKind.RELEASE,
        ResourceKind.BINDING,
    )
    gone = [row for kind in kinds for row in moment.registry.of(kind, name)]
    return [moment.gone(row) for row in (*gone, *_domains_of(moment, name))]


def bind(moment: Moment, name: str, environment: str, binding: str, backend: str) -> list[Resource]:
    """Bind a backend to an environment; "" takes the binding away.

    Raises:
        ApiError: there is no such backend, or too many bindings.
    """
    if not is_id(binding):
        raise outside("binding", binding, NAME)
    backends = moment.known.base.backends
    if backend and backend not in backends:
        raise outside("backend", backend, f"one of {', '.join(backends) or 'none'}")
    configured = moment.environment(name, environment)
    if binding in configured.calls:
        called = configured.calls[binding]
        raise conflict(f"{binding} is bound to {called} in the configuration", "binding", binding)
    in_force = _bindings(moment, name, configured)
    if not backend and binding not in in_force:
        raise ApiError(
            f"no binding {binding!r} of {environment}", field="binding", kind=Kind.NOT_FOUND
        )
    if backend and len({*in_force, binding}) > MAX_BINDINGS:
        raise conflict(
            f"{len(in_force) + 1} bindings exceed limit of {MAX_BINDINGS}", "binding", binding
        )
    key, base = f"{environment}.{binding}", configured.bindings.get(binding, "")
    if backend == base:
        row = moment.registry.get(ResourceKind.BINDING, name, key)
        return [moment.gone(row)] if row is not None else []
    return [moment.row(ResourceKind.BINDING, name, key, BindingRecord(backend, base))]


def add_domain(
    moment: Moment, name: str, environment: str, host: str
) -> tuple[str, list[Resource]]:
    """Have a host name lead to an environment.

    Returns:
        The host as it is kept, and the rows.

    Raises:
        ApiError: it is no host name, or belongs to somebody.
    """
    moment.environment(name, environment)
    host = _checked_host(host, moment.known.terms.domain)
    owner = host_owners(moment.known.base).get((host, "/"))
    if owner is not None:
        raise conflict(f"{host} belongs to {owner} in the configuration", "host", host)
    row, record = (
        moment.registry.get(ResourceKind.DOMAIN, "", host),
        DomainRecord(name, environment),
    )
    if row is not None and row.body != encode(record):
        raise conflict(f"{host} is a domain of another environment already", "host", host)
    if row is not None:
        return host, []
    if len(_domains_of(moment, name)) >= MAX_DOMAINS:
        raise conflict(
            f"{MAX_DOMAINS + 1} domains of {name} exceed limit of {MAX_DOMAINS}", "host", host
        )
    return host, [moment.row(ResourceKind.DOMAIN, "", host, record)]


def remove_domain(moment: Moment, name: str, host: str) -> list[Resource]:
    """Take a host name away from a project.

    Raises:
        ApiError: the project has no such domain.
    """
    moment.project(name)
    for row in _domains_of(moment, name):
        if row.key.name == host.lower().rstrip("."):
            return [moment.gone(row)]
    raise ApiError(
        f"no domain {host[:80]!r} of {name}", field="host", kind=Kind.NOT_FOUND, value=host[:80]
    )


def _bindings(moment: Moment, name: str, configured: Environment) -> set[str]:
    """Return the bindings of an environment that are in force."""
    found, start = set(configured.bindings), f"{configured.id.environment}."
    for row in moment.registry.of(ResourceKind.BINDING, name):
        binding = row.key.name.removeprefix(start)
        if row.key.name.startswith(start) and _applies(row, configured.bindings.get(binding, "")):
            is_there = bool(decode(row, BindingRecord).backend)
            (found.add if is_there else found.discard)(binding)
    return found


def _applies(row: Resource, base: str) -> bool:
    try:
        return decode(row, BindingRecord).base == base
    except OnetripError:
        return False


def _domains_of(moment: Moment, name: str) -> list[Resource]:
    found: list[Resource] = []
    for row in moment.registry.of(ResourceKind.DOMAIN):
        try:
            if decode(row, DomainRecord).project == name:
                found.append(row)
        except OnetripError:
            continue
    return found


def _checked_host(text: str, reserved: str) -> str:
    """Return a host name as it is kept; `reserved` and what is below it is no custom domain."""
    host = text.lower().rstrip(".")
    if len(host) > 253 or not is_public_name(host.removeprefix("*.")):
        raise outside("host", text, "a host name of two labels or more, or *. and one")
    if reserved and (host == reserved or host.endswith(f".{reserved}")):
        raise conflict(f"{host} is below deployments.domain {reserved}", "host", host)
    return host
