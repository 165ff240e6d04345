"""Advice on where the data of a backend should be. Times are means over all its requests, s."""

from __future__ import annotations

from dataclasses import dataclass

from onetrip.model.topology import RegionId


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """Replicas to add.

    Attributes:
        regions: where, the one that saves most first.
        latency: with them.
        saving: over what is now.
        commit_wait: RTT from the primary to the farthest of them, s: what each commit would take
            longer if they were synchronous. Asynchronous ones cost a write nothing.
    """

    regions: tuple[RegionId, ...]
    latency: float
    saving: float
    commit_wait: float


@dataclass(frozen=True, slots=True)
class PrimaryPlan:
    """The primary in another region, the replicas as they are; see `ReplicaPlan`."""

    region: RegionId
    latency: float
    saving: float


@dataclass(frozen=True, slots=True)
class Advice:
    """Where the data of one backend should be.

    Attributes:
        latency: now, without the application's own time.
        nearest: if all reads went to the nearest endpoint there is; None where that saves nothing.
        write_ratio: share of the requests that may write, 0-1.
        replicas: plans for one, two, ... more replicas; ends where another saves nothing.
        primary: the best other place of the primary; None where there is none better.
    """

    latency: float
    nearest: float | None
    write_ratio: float
    replicas: tuple[ReplicaPlan, ...]
    primary: PrimaryPlan | None


@dataclass(frozen=True, slots=True)
class BackendAdvice:
    """The advice for one backend, and what it was made from.

    Attributes:
        primary: name of the endpoint that is the primary now.
        home: region nearest to it, None while no RTT to it is known.
        replicas: name of each other endpoint there is, and the region nearest to it.
        requests: how many of the project's the advice rests on.
        advice: None where something is missing.
        missing: what that is, or "".
    """

    backend: str
    primary: str
    home: RegionId | None
    replicas: tuple[tuple[str, RegionId | None], ...]
    requests: int
    advice: Advice | None
    missing: str = ""
