"""Replicas of backends, and which endpoint a binding reads from: decoded entries to the catalog."""

from __future__ import annotations

from collections.abc import Mapping

from onetrip.app.schema_projects import BackendEntry, BindingEntry
from onetrip.errors import ConfigError
from onetrip.model.catalog import Backend, Replica
from onetrip.model.topology import is_id, parse_endpoint


def build_replicas(backend: str, entry: BackendEntry, key: str) -> tuple[Replica, ...]:
    """Return the replicas of a backend; `key` is where it stands.

    Raises:
        ConfigError: a name or an address that cannot be used.
    """
    found: dict[str, Replica] = {}
    for name, each in entry.replicas.items():
        where = f"{key}.replicas.{name}"
        _check_name(name, where)
        try:
            endpoint = parse_endpoint(each.address)
        except ConfigError as error:
            raise ConfigError(f"{where}.address: {error}") from error
        if str(endpoint) in found:
            other = found[str(endpoint)].name
            raise ConfigError(f"{where}.address: {endpoint} is that of {other}")
        found[str(endpoint)] = Replica(f"{backend}/{name}", endpoint)
    return tuple(found.values())


def build_bindings(
    entries: Mapping[str, str | BindingEntry], backends: Mapping[str, Backend], key: str
) -> tuple[dict[str, str], frozenset[str]]:
    """Return the backend of each binding, and the backends that are read from nearby.

    Raises:
        ConfigError: a backend that does not exist, has no replicas to read from, or is read from
            in two ways.
    """
    bound: dict[str, str] = {}
    reads: dict[str, str] = {}
    for name, entry in entries.items():
        where = f"{key}.{name}"
        _check_name(name, where)
        each = BindingEntry(backend=entry) if isinstance(entry, str) else entry
        if each.backend not in backends:
            known = ", ".join(backends) or "none"
            raise ConfigError(f"{where}: backend {each.backend!r} is not one of {known}")
        if each.reads == "nearest" and not backends[each.backend].replicas:
            raise ConfigError(f"{where}.reads: backend {each.backend!r} has no replicas")
        if reads.setdefault(each.backend, each.reads) != each.reads:
            raise ConfigError(
                f"{where}.reads: another binding reads {each.backend!r} from the "
                f"{reads[each.backend]} endpoint"
            )
        bound[name] = each.backend
    return bound, frozenset(name for name, way in reads.items() if way == "nearest")


def _check_name(text: str, key: str) -> None:
    if not is_id(text):
        raise ConfigError(
            f"{key}: {text!r} is not a name of 1-32 lower-case letters, digits and hyphens"
        )
