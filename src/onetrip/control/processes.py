"""Bodies of the admin API about the processes of a node."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from onetrip.model.status import WorkerStatus


class WorkerRow(Struct, frozen=True):
    """One worker process; see `model.status.WorkerStatus`."""

    index: int
    pid: int
    is_serving: bool
    uptime: float
    connections: int
    placements: int
    ends: int


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
