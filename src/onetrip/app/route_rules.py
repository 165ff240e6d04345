"""Declared routes: one entry of `routes` to the rule that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onetrip.app.named import known_region
from onetrip.app.residency import Residency
from onetrip.app.schema_projects import RouteEntry
from onetrip.errors import ConfigError
from onetrip.model.catalog import RouteRule
from onetrip.model.topology import RegionId


def build_rule(
    entry: RouteEntry, bindings: Sequence[str], residency: Residency, key: str
) -> RouteRule:
    """Return the rule of an entry.

    Args:
        bindings: names of its environment's bindings.
        residency: of its environment.
        key: where it stands, for error lines.

    Raises:
        ConfigError: a pattern that cannot be used, or a binding or region that does not exist.
    """
    segments = entry.path.split("/")[1:]
    for number, segment in enumerate(segments):
        if "*" in segment and segment not in ("*", "**"):
            raise ConfigError(f"{key}.path: segment {segment!r} of {entry.path!r} mixes * and text")
        if segment == "**" and number != len(segments) - 1:
            raise ConfigError(f"{key}.path: ** of {entry.path!r} is not the last segment")
    for binding in entry.round_trips or {}:
        if binding not in bindings:
            known = ", ".join(bindings) or "none"
            raise ConfigError(f"{key}.round_trips.{binding}: binding is not one of {known}")
    return RouteRule(
        pattern=entry.path,
        round_trips=dict(entry.round_trips) if entry.round_trips is not None else None,
        is_local=entry.local,
        deny=residency.of(entry, key),
        rates=_rates(entry.rates, residency, f"{key}.rates"),
        write_rates=_rates(entry.write_rates, residency, f"{key}.write_rates"),
    )


def _rates(rates: Mapping[str, float], residency: Residency, key: str) -> dict[RegionId, float]:
    return {
        known_region(name, residency.regions, f"{key}.{name}"): rate for name, rate in rates.items()
    }
