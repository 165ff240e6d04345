"""What projects promise about reads, as configured, and the keys of the tokens that keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from onetrip.app.schema import File
from onetrip.app.security import MIN_SECRET_SIZE, read_secret
from onetrip.errors import ConfigError
from onetrip.model.catalog import Backend, BackendKind, Catalog, Project
from onetrip.model.consistency import Carry, Consistency
from onetrip.wire.consistency_token import project_key

MAX_KEYS = 4
"""Keys at once: each one more costs a hash for every token that none of the others signed."""


def with_consistency(catalog: Catalog, file: File, folder: Path, secret: str | None) -> Catalog:
    """Return the catalog with what its projects promise about reads.

    Args:
        folder: what relative paths are relative to.
        secret: of the cluster, which the key is made of where no other is set.

    Raises:
        ConfigError: the first entry that cannot be used; the message starts with its key.
    """
    wanted = [name for name, entry in file.projects.items() if entry.consistency.mode != "off"]
    keys = _keys(file, folder, secret)
    projects = dict(catalog.projects)
    for name in wanted:
        _check(file, catalog.projects[name], catalog.backends)
        entry = file.projects[name].consistency
        terms = Consistency(
            tuple(project_key(key, name) for key in keys),
            entry.wait,
            Carry(entry.carry),
            entry.max_age,
        )
        environments = {
            label: replace(environment, consistency=terms)
            for label, environment in catalog.projects[name].environments.items()
        }
        projects[name] = replace(catalog.projects[name], environments=environments)
    return replace(catalog, projects=projects)


def _keys(file: File, folder: Path, secret: str | None) -> list[bytes]:
    entry = file.consistency
    text = read_secret(folder, entry.key_file, entry.key_env, "consistency.key")
    if text is None and secret is not None:
        return [secret.encode()]
    if text is None:
        raise ConfigError(
            "consistency: key_file or key_env is required with projects.<name>.consistency, "
            "where there is no cluster.secret either"
        )
    keys = [key.strip().encode() for key in text.splitlines() if key.strip()]
    if len(keys) > MAX_KEYS:
        raise ConfigError(f"consistency.key: {len(keys)} keys exceed limit of {MAX_KEYS}")
    for number, key in enumerate(keys, 1):
        if len(key) < MIN_SECRET_SIZE:
            raise ConfigError(
                f"consistency.key: key {number} of {len(key)} bytes is below limit of "
                f"{MIN_SECRET_SIZE}"
            )
    return keys


def _check(file: File, project: Project, backends: Mapping[str, Backend]) -> None:
    key = f"projects.{project.name}"
    if not any(e.reads_nearest for e in project.environments.values()):
        raise ConfigError(
            f"{key}.consistency.mode: no binding has reads: nearest, and what is read from the "
            "primary is never behind"
        )
    for backend in sorted({b for e in project.environments.values() for b in e.reads_nearest}):
        if backends[backend].kind is BackendKind.REDIS:
            raise ConfigError(
                f"{key}.consistency.mode: reads of {backend!r} go to replicas of Redis, which may "
                "lose in a failover what it has answered: nothing can be promised of them"
            )
        if backends[backend].replication is None:
            raise ConfigError(
                f"backends.{backend}.replication: an account is required with "
                f"{key}.consistency, to ask endpoints for their positions"
            )
    if project.hedge is not None:
        raise ConfigError(f"{key}.hedge: a second attempt may read elsewhere; leave out either")
