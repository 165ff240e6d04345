"""What an environment is bound to: backends, and other projects; decoded entries to the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError

from onetrip.app.named import check_id
from onetrip.app.schema_projects import BindingEntry
from onetrip.errors import ConfigError
from onetrip.model.catalog import Backend, Catalog, EnvironmentId


@dataclass(slots=True)
class Bound:
    """The bindings of one environment.

    Attributes:
        backends: the backend of each binding to one.
        reads_nearest: backends that are read from their nearest endpoint.
        calls: the environment of each binding to another project.
    """

    backends: dict[str, str] = field(default_factory=dict)
    reads_nearest: frozenset[str] = frozenset()
    calls: dict[str, EnvironmentId] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all bindings."""
        return [*self.backends, *self.calls]


def build_bindings(
    entries: Mapping[str, str | BindingEntry], backends: Mapping[str, Backend], key: str
) -> Bound:
    """Return what the bindings of an environment lead to; `key` is where they stand.

    Raises:
        ConfigError: a backend that does not exist, has no replicas to read from, or is read from
            in two ways; a binding to both a backend and a project, or to neither.
    """
    bound, reads = Bound(), dict[str, str]()
    for name, entry in entries.items():
        where = f"{key}.{name}"
        check_id(name, where)
        each = BindingEntry(backend=entry) if isinstance(entry, str) else entry
        if each.backend is not None:
            bound.backends[name] = _backend(each, each.backend, backends, where)
            if reads.setdefault(each.backend, each.reads) != each.reads:
                raise ConfigError(
                    f"{where}.reads: another binding reads {each.backend!r} from the "
                    f"{reads[each.backend]} endpoint"
                )
        else:
            bound.calls[name] = _called(each, where)
    bound.reads_nearest = frozenset(name for name, way in reads.items() if way == "nearest")
    return bound


def _backend(each: BindingEntry, name: str, backends: Mapping[str, Backend], where: str) -> str:
    for given in ("project", "environment"):
        if getattr(each, given) is not None:
            raise ConfigError(f"{where}.{given}: a binding is to a backend or to a project")
    if name not in backends:
        known = ", ".join(backends) or "none"
        raise ConfigError(f"{where}: backend {name!r} is not one of {known}")
    access = backends[name].replication
    finds_some = access is not None and bool(access.discover)
    if each.reads == "nearest" and not backends[name].replicas and not finds_some:
        raise ConfigError(f"{where}.reads: backend {name!r} has no replicas")
    return name


def _called(each: BindingEntry, where: str) -> EnvironmentId:
    if each.project is None:
        raise ConfigError(f"{where}: backend or project is required")
    if each.reads != "primary":
        raise ConfigError(f"{where}.reads: a project has no endpoints to choose from")
    return EnvironmentId(each.project, each.environment or "production")


def check_calls(catalog: Catalog) -> None:
    """Refuse calls of what does not exist, and services that call themselves by way of others.

    Raises:
        ConfigError: the first one.
    """
    known = {environment.id for environment in catalog.environments()}
    for environment in catalog.environments():
        for name, called in environment.calls.items():
            if called not in known:
                raise ConfigError(f"{_where(environment.id, name)}: there is no {called}")
    try:
        catalog.called()
    except CycleError as error:
        cycle: list[EnvironmentId] = error.args[1]
        first = catalog.projects[cycle[1].project].environments[cycle[1].environment]
        name = next(n for n, called in first.calls.items() if called == cycle[0])
        way = " -> ".join(str(each) for each in reversed(cycle))
        raise ConfigError(f"{_where(first.id, name)}: {way} is a circle") from error


def _where(id: EnvironmentId, binding: str) -> str:
    return f"projects.{id.project}.environments.{id.environment}.bindings.{binding}"
