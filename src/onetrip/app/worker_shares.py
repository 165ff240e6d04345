"""A worker's share of what limits a whole node.

Each limit that counts something at once is divided by the number of workers and rounded up: the
node as a whole keeps it (to within one each), at the price that one worker can be full while
another has room. Limits of one connection or one message are the same everywhere.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from onetrip.errors import ConfigError
from onetrip.model.catalog import Backend, Catalog, Environment, Project
from onetrip.proxy.ejection import EjectionSettings
from onetrip.proxy.settings import ProxySettings

DIVIDED = (
    "max_connections",
    "max_handshakes",
    "pool_connections",
    "pool_idle",
    "pool_queue",
    "pool_requests",
    "retry_reserve",
)
"""Fields of `ProxySettings` that count what exists at once in the whole node."""


def worker_count(wanted: int | str) -> int:
    """Return how many workers to run; `auto` is one for each processor this process may use.

    Raises:
        ConfigError: this system cannot run several.
    """
    if wanted == 1:
        return 1
    if sys.platform != "linux":
        raise ConfigError("workers: more than one needs Linux")
    return len(os.sched_getaffinity(0)) if isinstance(wanted, str) else wanted


def share_of_settings(settings: ProxySettings, workers: int) -> ProxySettings:
    """Return the limits of one worker."""
    shares: dict[str, Any] = {name: _share(getattr(settings, name), workers) for name in DIVIDED}
    return replace(settings, **shares)


def share_of_catalog(catalog: Catalog, workers: int) -> Catalog:
    """Return the catalog with each capacity divided, and the memory for kept responses.

    Without what only the node uses: a worker asks no database and no relay.
    """
    projects = {name: _project(project, workers) for name, project in catalog.projects.items()}
    backends = {name: _unlocked(backend) for name, backend in catalog.backends.items()}
    return replace(catalog, projects=projects, backends=backends)


def as_fields(settings: ProxySettings) -> tuple[dict[str, Any], list[str]]:
    """Return the fields as they are sent: plain values, and the trusted networks as text."""
    plain = {field.name: getattr(settings, field.name) for field in fields(settings)}
    networks = [str(network) for network in plain.pop("trusted_proxies")]
    return plain, networks


def from_fields(plain: Mapping[str, Any], networks: Sequence[str]) -> ProxySettings:
    """Return the settings that `as_fields` made plain, as they arrive."""
    parts: dict[str, Any] = {
        "ejection": EjectionSettings(**plain["ejection"]),
        "trusted_proxies": tuple(ipaddress.ip_network(text) for text in networks),
    }
    return ProxySettings(**{**plain, **parts})


def _project(project: Project, workers: int) -> Project:
    environments = {n: _environment(e, workers) for n, e in project.environments.items()}
    variants = tuple(_environment(each, workers) for each in project.variants)
    return replace(project, environments=environments, variants=variants)


def _environment(environment: Environment, workers: int) -> Environment:
    capacity, cache = environment.capacity, environment.cache
    if capacity is not None:
        environment = replace(environment, capacity=_share(capacity, workers))
    if cache is not None:
        size = _share(cache.max_size, workers)
        cache = replace(cache, max_size=size, max_object=min(size, cache.max_object))
        environment = replace(environment, cache=cache)
    if environment.candidate is not None:
        environment = replace(environment, candidate=_environment(environment.candidate, workers))
    return environment


def _unlocked(backend: Backend) -> Backend:
    access = backend.replication
    if access is None:
        return backend
    return replace(backend, replication=replace(access, password="", relay_token=""))


def _share(total: int, workers: int) -> int:
    return -(-total // workers)
