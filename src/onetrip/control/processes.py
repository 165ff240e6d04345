"""Bodies of the admin API about the processes of a node."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from onetrip.model.status import EnvoyStatus, WorkerStatus


class WorkerRow(Struct, frozen=True):
    """One worker process; see `model.status.WorkerStatus`."""

    index: int
    pid: int
    is_serving: bool
    uptime: float
    connections: int
    placements: int
    ends: int


class EnvoyRow(Struct, frozen=True):
    """One Envoy that follows the node; see `model.status.EnvoyStatus`."""

    name: str
    version: str
    address: str
    uptime: float
    is_current: bool
    refused: dict[str, str]


class DrainBody(Struct, frozen=True):
    """`POST /v1/drain`: the node's own region, and every region that drains now."""

    region: str
    is_draining: bool
    draining: list[str]


class UpgradeBody(Struct, frozen=True):
    """`POST /v1/upgrade`: the process that serves from now on."""

    pid: int
    version: str


def worker_rows(workers: Iterable[WorkerStatus]) -> list[WorkerRow]:
    """Describe the workers."""
    return [
        WorkerRow(
            index=worker.index,
            pid=worker.pid,
            is_serving=worker.is_serving,
            uptime=round(worker.uptime, 3),
            connections=worker.connections,
            placements=worker.placements,
            ends=worker.ends,
        )
        for worker in workers
    ]


def envoy_rows(envoys: Iterable[EnvoyStatus]) -> list[EnvoyRow]:
    """Describe the Envoys."""
    return [
        EnvoyRow(
            name=envoy.name,
            version=envoy.version,
            address=envoy.address,
            uptime=round(envoy.uptime, 3),
            is_current=envoy.is_current,
            refused=dict(envoy.refused),
        )
        for envoy in envoys
    ]


def problems_of(envoys: Iterable[EnvoyRow]) -> list[str]:
    """Return what is wrong with the Envoys, for people."""
    return [f"{e.name} refuses {what}: {why}" for e in envoys for what, why in e.refused.items()]
