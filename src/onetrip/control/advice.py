"""Advice on replicas as API bodies."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from onetrip.control.figures import milliseconds
from onetrip.model.advice import Advice, BackendAdvice


class ReplicaPlanRow(Struct, frozen=True):
    """Replicas to add, and what they would be worth.

    Attributes:
        regions: where, the one that saves most first.
        latency_ms: with them, mean over all requests, without the application's own time.
        saving_ms: over what is now.
        commit_wait_ms: what each commit would take longer if they were synchronous.
    """

    regions: list[str]
    latency_ms: float | None
    saving_ms: float | None
    commit_wait_ms: float | None


class PrimaryPlanRow(Struct, frozen=True):
    """The primary in another region, with the replicas there are."""

    region: str
    latency_ms: float | None
    saving_ms: float | None


class ReplicaPlaceRow(Struct, frozen=True):
    """A replica there is; `region` is the one nearest to it."""

    name: str
    region: str | None


class BackendAdviceRow(Struct, frozen=True):
    """Where the data of one backend should be.

    Attributes:
        primary: region nearest to its primary.
        primary_endpoint: which endpoint that is: another than the declared one after a failover.
        requests: how many the advice rests on.
        write_ratio: share of them that may write.
        latency_ms: now, mean over them, without the application's own time.
        nearest_ms: if all reads went to the nearest endpoint there is; null where that saves
            nothing.
        plans: for one, two, ... more replicas; none where they would save nothing.
        move: a better place of the primary, or null.
        missing: what is needed before anything can be advised, or "".
    """

    backend: str
    primary: str | None
    replicas: list[ReplicaPlaceRow]
    requests: int
    write_ratio: float | None
    latency_ms: float | None
    nearest_ms: float | None
    plans: list[ReplicaPlanRow]
    move: PrimaryPlanRow | None
    missing: str
    primary_endpoint: str = ""


class ReplicaAdviceBody(Struct, frozen=True):
    """`GET /v1/advice/replicas`."""

    backends: list[BackendAdviceRow]


def advice_body(found: Iterable[BackendAdvice]) -> ReplicaAdviceBody:
    """Return the advice for people."""
    return ReplicaAdviceBody([_row(each) for each in found])


def _row(each: BackendAdvice) -> BackendAdviceRow:
    advice = each.advice
    return BackendAdviceRow(
        backend=each.backend,
        primary=each.home,
        replicas=[ReplicaPlaceRow(name, region) for name, region in each.replicas],
        requests=each.requests,
        write_ratio=None if advice is None else round(advice.write_ratio, 4),
        latency_ms=None if advice is None else milliseconds(advice.latency),
        nearest_ms=None
        if advice is None or advice.nearest is None
        else milliseconds(advice.nearest),
        plans=[] if advice is None else _plans(advice),
        move=None if advice is None else _move(advice),
        missing=each.missing,
        primary_endpoint=each.primary,
    )


def _plans(advice: Advice) -> list[ReplicaPlanRow]:
    return [
        ReplicaPlanRow(
            list(plan.regions),
            milliseconds(plan.latency),
            milliseconds(plan.saving),
            milliseconds(plan.commit_wait),
        )
        for plan in advice.replicas
    ]


def _move(advice: Advice) -> PrimaryPlanRow | None:
    plan = advice.primary
    if plan is None:
        return None
    return PrimaryPlanRow(plan.region, milliseconds(plan.latency), milliseconds(plan.saving))
