"""Endpoints of backends whose replication is watched, as rows of `GET /v1/status`."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from onetrip.control.figures import finite, milliseconds
from onetrip.model.replication import Role
from onetrip.model.status import EndpointStatus


class ReplicaRow(Struct, frozen=True):
    """One endpoint of a backend (`model.status.EndpointStatus`).

    Attributes:
        region: Where it is declared or was found to be, null where nobody said.
        role: `primary`, `replica` or `unknown`, by its own word.
        is_primary: Writes are scored with it.
        is_read: Reads may be scored with it.
        is_replicating: It receives and applies changes.
        lag_ms: Age of the data that a read sees, null where it is not known.
        lag_bytes: Log that it has not applied, null where a database does not count so.
        max_lag_ms: With more it is left out.
        age: Since it was asked, s, null when it was never.
        problem: Why it could not be asked the last time, empty when it could.
    """

    backend: str
    endpoint: str
    address: str
    region: str | None
    role: str
    is_primary: bool
    is_read: bool
    is_discovered: bool
    is_replicating: bool | None
    lag_ms: float | None
    lag_bytes: int | None
    max_lag_ms: float
    age: float | None
    position: str
    problem: str


def replica_rows(statuses: Iterable[EndpointStatus]) -> list[ReplicaRow]:
    """Describe endpoints."""
    return [_row(status) for status in statuses]


def problems_of(rows: Iterable[ReplicaRow]) -> list[str]:
    """Return what a person should know of."""
    found: list[str] = []
    for row in rows:
        if row.problem:
            found.append(f"{row.endpoint} tells no position: {row.problem}")
        elif not row.is_read:
            lag = "" if row.lag_ms is None else f", {row.lag_ms / 1e3:.3g} s behind"
            found.append(f"{row.endpoint} is not read from{lag}")
    return found


def _row(status: EndpointStatus) -> ReplicaRow:
    state = status.state
    is_known = state is not None and state.role is not Role.UNKNOWN
    return ReplicaRow(
        backend=status.backend,
        endpoint=status.endpoint,
        address=status.address,
        region=status.region,
        role=Role.UNKNOWN.value if state is None else state.role.value,
        is_primary=status.is_primary,
        is_read=status.is_read,
        is_discovered=status.is_discovered,
        is_replicating=state.is_replicating if state is not None and is_known else None,
        lag_ms=None if state is None else milliseconds(state.lag),
        lag_bytes=None if state is None else state.lag_bytes,
        max_lag_ms=status.max_lag * 1e3,
        age=finite(state.age) if state is not None and is_known else None,
        position="" if state is None else str(state.position),
        problem="" if state is None else state.problem,
    )
