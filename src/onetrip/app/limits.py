"""Limits, timeouts and thresholds: decoded entries to checked settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from onetrip.app.schema import ProbeEntry, ProxyEntry
from onetrip.app.schema_projects import HedgeEntry
from onetrip.errors import ConfigError
from onetrip.estimate.filters import FilterSettings
from onetrip.model.catalog import Hedge, Project
from onetrip.probe.plan import ProbeSettings
from onetrip.proxy.ejection import EjectionSettings
from onetrip.proxy.settings import ProxySettings


def build_proxy(entry: ProxyEntry) -> ProxySettings:
    """Return the settings that `proxy` describes.

    Raises:
        ConfigError: the first value that cannot be used.
    """
    values = msgspec.structs.asdict(entry)
    del values["drain_timeout"], values["request_timeout"]  # of a node, of environments
    networks = []
    for number, cidr in enumerate(values.pop("trusted_proxies")):
        try:
            networks.append(ipaddress.ip_network(cidr))
        except ValueError:
            raise ConfigError(
                f"proxy.trusted_proxies[{number}]: {cidr!r} is not a network"
            ) from None
    values["needs_proxy_header"] = values.pop("proxy_protocol") == "required"
    values["ejection"] = EjectionSettings(**msgspec.structs.asdict(entry.ejection))
    return ProxySettings(**values, trusted_proxies=tuple(networks))


def with_timeouts(projects: Mapping[str, Project], default: float | None) -> dict[str, Project]:
    """Return `projects` with the time limit of requests where an environment sets none."""
    if default is None:
        return dict(projects)
    return {
        name: replace(
            project,
            environments={
                label: replace(env, request_timeout=default) if env.request_timeout is None else env
                for label, env in project.environments.items()
            },
        )
        for name, project in projects.items()
    }


def build_hedge(entry: HedgeEntry | None) -> Hedge | None:
    """Return when a project's slow requests are sent again."""
    if entry is None:
        return None
    if isinstance(entry.after, str):
        return Hedge(quantile=int(entry.after[1:]) / 100, max_ratio=entry.max_ratio)
    return Hedge(after=entry.after, max_ratio=entry.max_ratio)


def build_probe(entry: ProbeEntry) -> ProbeSettings:
    """Return the settings that `probe` describes."""
    return ProbeSettings(
        interval=entry.interval,
        timeout=entry.timeout,
        max_rate=entry.max_rate,
        peers=entry.peers,
        failing_after=entry.unhealthy_after,
        recovered_after=entry.healthy_after,
    )


def build_filters(probe: ProbeSettings) -> FilterSettings:
    """Return the filters that suit these probes: they agree on what is down, and what is old."""
    return FilterSettings(
        max_age=max(30.0, 6 * probe.interval),
        failing_after=probe.failing_after,
        recovered_after=probe.recovered_after,
    )
