"""The configuration that an import makes: sites found in a file, and where their instances are.

Pure: readers fill a `Draft`, `document` turns it into the mapping that becomes onetrip.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from onetrip.cli.imports.report import Outcome, Place, Report
from onetrip.errors import ConfigError
from onetrip.model.topology import is_id, parse_endpoint

DEFAULT_REGION = "main"
"""Region of instances that neither `--region` nor `--map` speaks of."""


@dataclass(frozen=True, slots=True)
class RegionMap:
    """Which region an instance is in.

    Attributes:
        rules: networks, or endings of host names, and their regions; the longest one that fits
            counts.
        default: of the others, or None when nobody said it.
    """

    rules: tuple[tuple[IPv4Network | IPv6Network | str, str], ...] = ()
    default: str | None = None

    @classmethod
    def parse(cls, default: str | None, texts: Iterable[str]) -> RegionMap:
        """Read `--region` and `--map`.

        Raises:
            ConfigError: one that is not `NETWORK=REGION` or `HOST=REGION`.
        """
        rules: list[tuple[IPv4Network | IPv6Network | str, str]] = []
        for each in texts:
            what, equals, region = each.rpartition("=")
            if not equals or not what or not is_id(region):
                raise ConfigError(f"--map {each[:80]!r} is not NETWORK=REGION or HOST=REGION")
            try:
                rules.append((ip_network(what), region))
            except ValueError:
                rules.append((what.lower(), region))
        if default is not None and not is_id(default):
            raise ConfigError(f"--region {default[:40]!r} is not the name of a region")
        return cls(tuple(rules), default)

    def region_of(self, host: str) -> str | None:
        """Return the region of an address or host name, or None when nothing says it."""
        found = [(_weight(what), region) for what, region in self.rules if _fits(what, host)]
        return max(found)[1] if found else self.default


@dataclass(slots=True)
class Upstream:
    """Instances that a site's requests go to.

    Attributes:
        addresses: as `instances` has them, each with where it was found.
        protocol: what they speak.
        capacity: requests at once each, or None.
    """

    addresses: list[tuple[str, Place]] = field(default_factory=list)
    protocol: str = "http1"
    capacity: int | None = None


@dataclass(slots=True)
class Site:
    """An environment in the making.

    Attributes:
        label: what its project is named after.
        prefix: paths it takes, below this one.
        assets: the `assets` entry, or None.
        routes: patterns of routes that have to be declared.
        has_cache: responses may be kept.
        health_path: what probes request, or None.
    """

    label: str
    hosts: tuple[str, ...]
    prefix: str
    upstream: Upstream
    place: Place
    assets: dict[str, Any] | None = None
    routes: list[str] = field(default_factory=list)
    has_cache: bool = False
    health_path: str | None = None


@dataclass(slots=True)
class Draft:
    """Everything that was found in a file; `top` has entries such as `listen` and `proxy`."""

    sites: list[Site] = field(default_factory=list)
    top: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    def section(self, name: str) -> dict[str, Any]:
        """Return a top-level entry to be filled."""
        found: dict[str, Any] = self.top.setdefault(name, {})
        return found


def document(draft: Draft, regions: RegionMap) -> dict[str, Any]:
    """Return the configuration as the mapping to be written.

    Raises:
        ConfigError: the file has no site that onetrip could serve.
    """
    sites = _without_twins(draft)
    if not sites:
        raise ConfigError("nothing in it can be served by onetrip; the report says why")
    names: set[str] = set()
    used: dict[str, dict[str, Any]] = {}
    projects = {}
    for site in sites:
        entry = _environment(site, regions, draft.report)
        used |= {region: {} for region in entry["instances"]}
        project: dict[str, Any] = {"environments": {"production": entry}}
        if site.has_cache:
            project["cache"] = {"enabled": True}
        projects[_name(site, names)] = project
    if len(used) > 1:
        draft.report.add(
            *(sites[0].place, "regions", Outcome.DECIDE),
            "several regions: set proxy and peer of each region's node, cluster.secret_env, and "
            "give each node its --region",
        )
    return {
        **{k: v for k, v in draft.top.items() if v != {}},
        "regions": used,
        "projects": projects,
    }


def host_slug(text: str) -> str:
    """Return a name for projects made of a host name or path; "" when nothing is left of it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _environment(site: Site, regions: RegionMap, report: Report) -> dict[str, Any]:
    instances: dict[str, list[str]] = {}
    for address, place in site.upstream.addresses:
        region = regions.region_of(parse_endpoint(address).host)
        if region is None:
            region = DEFAULT_REGION
            report.add(
                *(place, address, Outcome.DECIDE),
                f"which region is it in? Taken for {region!r}; give --region or --map",
            )
        listed = instances.setdefault(region, [])
        if address not in listed:
            listed.append(address)
    entry: dict[str, Any] = {"hosts": list(site.hosts)}
    if site.prefix != "/":
        entry["path_prefix"] = site.prefix
    if site.upstream.protocol != "http1":
        entry["protocol"] = site.upstream.protocol
    if site.upstream.capacity is not None:
        entry["capacity"] = site.upstream.capacity
    if site.health_path is not None:
        entry["health_path"] = site.health_path
    entry["instances"] = instances
    if site.routes:
        entry["routes"] = [{"path": path} for path in dict.fromkeys(site.routes)]
    if site.assets is not None:
        entry["assets"] = site.assets
    return entry


def _without_twins(draft: Draft) -> list[Site]:
    """Return the sites without those whose host and path belong to an earlier one."""
    owners: dict[tuple[str, str], Site] = {}
    kept: list[Site] = []
    for site in draft.sites:
        owned = [owners.get((host, site.prefix)) for host in site.hosts]
        free = tuple(host for host, owner in zip(site.hosts, owned, strict=True) if owner is None)
        if any(owner is not None and not _is_same(owner, site) for owner in owned):
            taken = sorted(set(site.hosts) - set(free))
            draft.report.add(
                *(site.place, f"{', '.join(taken)}{site.prefix}", Outcome.LEFT_OUT),
                "an earlier site has this host and path; onetrip does not tell ports apart",
            )
        if free:
            site.hosts = free
            kept.append(site)
            owners |= {(host, site.prefix): site for host in free}
    return kept


def _is_same(one: Site, other: Site) -> bool:
    sides: Sequence[Site] = (one, other)
    first, second = ([a for a, _ in site.upstream.addresses] for site in sides)
    return first == second and one.assets == other.assets


def _name(site: Site, taken: set[str]) -> str:
    base = host_slug(site.label)
    if site.prefix != "/":
        base += "-" + host_slug(site.prefix)
    base = (base.strip("-") or "site")[:32].strip("-")
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base[: 31 - len(str(number))].strip('-')}-{number}"
    taken.add(name)
    return name


def _weight(what: IPv4Network | IPv6Network | str) -> int:
    return len(what) if isinstance(what, str) else what.prefixlen


def _fits(what: IPv4Network | IPv6Network | str, host: str) -> bool:
    if isinstance(what, str):
        ending = what.removeprefix("*")
        return host.lower() == what or (ending.startswith(".") and host.lower().endswith(ending))
    try:
        return ip_address(host) in what
    except ValueError:
        return False


def merged(target: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put entries into a section without replacing what is there."""
    for key, value in more.items():
        target.setdefault(key, value)
