"""What edges answer by themselves, as configured: files of a deployment, responses they keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from onetrip.app.schema import File
from onetrip.app.schema_projects import AssetsEntry, CacheEntry
from onetrip.errors import ConfigError
from onetrip.model.catalog import Project
from onetrip.model.edge import Assets, CacheControlRule, CachePolicy

MAX_WILDCARDS = 8
"""Stars of one glob: the time of matching grows with their number."""

_NAME = re.compile(r"[^/\x00-\x1f.][^/\x00-\x1f]*")
_PLACE = re.compile(_NAME.pattern + r"(?:/" + _NAME.pattern + r")*")


def with_content(
    projects: Mapping[str, Project], file: File, folder: Path
) -> Mapping[str, Project]:
    """Return the projects with what their edges answer.

    Args:
        folder: what relative paths are relative to.

    Raises:
        ConfigError: the first entry that cannot be used; the message starts with its key.
    """
    found = dict(projects)
    for name, entry in file.projects.items():
        cache = _cache(entry.cache, f"projects.{name}.cache")
        environments = {
            label: replace(environment, cache=cache)
            for label, environment in projects[name].environments.items()
        }
        for label, each in entry.environments.items():
            if each.assets is not None:
                key = f"projects.{name}.environments.{label}.assets"
                assets = _assets(each.assets, each.path_prefix, folder, key)
                environments[label] = replace(environments[label], assets=assets)
        found[name] = replace(projects[name], environments=environments)
    return found


def _cache(entry: CacheEntry, key: str) -> CachePolicy | None:
    if entry.max_object > entry.max_size:
        raise ConfigError(
            f"{key}.max_object: {entry.max_object} bytes is above max_size of {entry.max_size}"
        )
    if not entry.enabled:
        return None
    return CachePolicy(entry.max_size, entry.max_object, entry.heuristic, entry.cookies, entry.wait)


def _assets(entry: AssetsEntry, path_prefix: str, folder: Path, key: str) -> Assets:
    directory = folder.absolute() / Path(entry.directory).expanduser()
    if not directory.is_dir():
        raise ConfigError(f"{key}.directory: {entry.directory} is not a directory")
    prefix = "/" + (entry.prefix or path_prefix).strip("/")
    outer = "/" + path_prefix.strip("/")
    if outer not in ("/", prefix) and not prefix.startswith(outer + "/"):
        raise ConfigError(f"{key}.prefix: {prefix} is not below path_prefix {outer}")
    if entry.index is not None and not _NAME.fullmatch(entry.index):
        raise ConfigError(f"{key}.index: {entry.index!r} is not the name of a file")
    if entry.not_found is not None and not _PLACE.fullmatch(entry.not_found):
        raise ConfigError(f"{key}.not_found: {entry.not_found!r} is not a path in the directory")
    if entry.spa and entry.index is None:
        raise ConfigError(f"{key}.spa: needs an index")
    return Assets(
        directory=str(directory),
        prefix=prefix,
        index=entry.index or "",
        not_found=entry.not_found or "",
        is_spa=entry.spa,
        rules=tuple(
            _rule(rule.path, rule.value, f"{key}.cache_control[{number}]")
            for number, rule in enumerate(entry.cache_control)
        ),
    )


def _rule(path: str, value: str, key: str) -> CacheControlRule:
    if path.count("*") + path.count("?") > MAX_WILDCARDS:
        raise ConfigError(f"{key}.path: {path!r} has more than {MAX_WILDCARDS} wildcards")
    return CacheControlRule(path, value.encode())
