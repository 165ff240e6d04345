"""The text of `onetrip relays`."""

from __future__ import annotations

from onetrip.cli.render import DASH, duration, plain, table
from onetrip.control.relays import RelayRouteRow, RelayRow, RelaysBody

SKEW = 1.0
"""Difference between a relay's clock and the node's that is worth a warning, s."""


def relays(body: RelaysBody) -> str:
    """Return the relays by backend, and the round trips a request of each route below."""
    if not body.relays:
        return "no database relay has reported to this node: onetrip relay --help"
    heads = ("BACKEND", ">RELAYS", "HEARD", ">TRIPS", ">A REQUEST", ">SET-UP", ">BACKGROUND/s")
    parts = [table(heads, map(_relay, body.relays))]
    parts += [f"{_name(row)}: {_skew(row)}" for row in body.relays if abs(row.delay or 0.0) > SKEW]
    routes = [(row, found) for row in body.relays for found in row.routes]
    if routes:
        columns = ("BACKEND", "ROUTE", ">TRIPS", ">ERROR", ">REQUESTS")
        parts.append("\n" + table(columns, (_route(*pair) for pair in routes)))
    return "\n".join(parts)


def _relay(row: RelayRow) -> tuple[str, ...]:
    return (
        _name(row),
        str(row.relays),
        f"{duration(row.age)} ago" if row.age is not None else "never",
        str(row.trips),
        _count(row.trips_per_request),
        _count(row.setup_trips_per_connection),
        _count(row.background_trips),
    )


def _route(row: RelayRow, found: RelayRouteRow) -> tuple[str, ...]:
    where = f"{found.project}/{found.environment}  {found.method} {found.route}"
    error = f"{found.error:.2f}" if found.error is not None else DASH
    return (_name(row), plain(where), _count(found.round_trips), error, str(found.requests))


def _name(row: RelayRow) -> str:
    return plain(f"{row.backend} ({row.project})" if row.project else row.backend)


def _skew(row: RelayRow) -> str:
    return f"its clock and the node's differ by {abs(row.delay or 0.0):.1f} s; counts blur"


def _count(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"
