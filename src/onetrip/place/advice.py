"""Where the next replicas, or the primary, of a backend should be: k-median over the RTT matrix.

A request that enters at edge e and makes n round trips to the backend costs, when its data is at s
and its compute wherever that is best,

    cost(e, s) = min over X of RTT(e, X) + other(X) + n · RTT(X, s)

with other(X) the round trips to its other backends. Where data is in several places the least over
s counts, so that choosing places is a k-median problem over a table of requests × sites: the joint
placement of compute and data is in the table already. Writes count with the primary alone.

Greedy choice, then exchange of single sites while that helps: the local optimum is at most five
times the optimum (Arya et al. 2004, "Local search heuristics for k-median and facility location
problems"), and on measured matrices mostly the optimum itself (docs/placement.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onetrip.model.advice import Advice, PrimaryPlan, ReplicaPlan
from onetrip.model.topology import RegionId

MOST_REPLICAS = 3
"""Replicas advised at once: each costs money, and each next one saves less."""

LEAST_SAVING = 1e-9
"""Saving, s, below which an exchange is rounding and no progress."""


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Requests of one route at one edge that make round trips to the backend.

    Attributes:
        weight: how many there are.
        trips: round trips of each to the backend.
        edge: RTT(edge, X), s, inf unknown, shape (R,).
        other: time of its round trips to other backends in X, s, shape (R,).
        places: regions that may run it, shape (R,).
        is_read: it only reads.
        reads_nearest: its reads use the nearest endpoint now.
    """

    weight: float
    trips: float
    edge: np.ndarray
    other: np.ndarray
    places: np.ndarray
    is_read: bool
    reads_nearest: bool = True


def site_costs(demands: Sequence[Demand], data: np.ndarray) -> np.ndarray:
    """Return cost(e, s) of each demand, s, shape (K, S); inf where no region can run it.

    Args:
        data: RTT(X, s) from each region to each site of data, s, inf unknown, shape (R, S).
    """
    out = np.empty((len(demands), data.shape[1]))
    for row, demand in enumerate(demands):
        start = np.where(demand.places, demand.edge + demand.other, np.inf)
        out[row] = (start[:, None] + demand.trips * data).min(axis=0)
    return out


def choose_sites(
    costs: np.ndarray, weights: np.ndarray, base: np.ndarray, count: int
) -> tuple[int, ...]:
    """Return `count` columns of `costs` that lower the weighted total most, best first.

    Args:
        costs: shape (K, S), s.
        weights: shape (K,).
        base: cost of each row with the sites there are, shape (K,); the total is that of
            min(base, costs of the chosen ones).
    """
    chosen: list[int] = []
    for _ in range(min(count, costs.shape[1])):
        chosen.append(_best_next(costs, weights, base, chosen))
    while (exchange := _best_exchange(costs, weights, base, chosen)) is not None:
        slot, column = exchange
        chosen[slot] = column
    return tuple(_by_gain(costs, weights, base, chosen))


def advise(
    demands: Sequence[Demand],
    regions: np.ndarray,
    endpoints: np.ndarray,
    home: int,
    names: Sequence[RegionId],
    most: int = MOST_REPLICAS,
) -> Advice | None:
    """Return the advice for one backend; None without a demand that can be served.

    Args:
        regions: RTT between regions, s, inf unknown, shape (R, R); its diagonal is the RTT to a
            backend inside a region.
        endpoints: RTT from each region to each endpoint there is, the primary first, shape (R, E).
        home: index of the primary's region.
        names: of the regions.
        most: replicas to add at most.
    """
    data = np.hstack([regions, endpoints])
    costs, size = site_costs(demands, data), regions.shape[1]
    served = np.isfinite(costs[:, size])
    if not served.any():
        return None
    costs = costs[served]
    kept = [d for d, ok in zip(demands, served, strict=True) if ok]
    weights = np.array([d.weight for d in kept]) / sum(d.weight for d in kept)
    is_read = np.array([d.is_read for d in kept])
    nearest = np.array([d.is_read and d.reads_nearest for d in kept])
    primary, copies = costs[:, size], costs[:, size:].min(axis=1)
    now = float(weights @ np.where(nearest, copies, primary))
    # A replica is of use to who reads nearby, so a plan is judged as if every reader did.
    base = np.where(is_read, copies, primary)
    sites = np.where(is_read[:, None], costs[:, :size], np.inf)
    switched = float(weights @ base)
    plans: list[ReplicaPlan] = []
    for count in range(1, min(most, size) + 1):
        chosen = choose_sites(sites, weights, base, count)
        total = _total(sites, weights, base, chosen)
        before = plans[-1].latency if plans else switched
        if before - total < LEAST_SAVING:
            break
        wait = max(float(regions[home, column]) for column in chosen)
        plans.append(ReplicaPlan(tuple(names[c] for c in chosen), total, now - total, wait))
    totals = _moved(costs[:, :size], costs[:, size + 1 :], weights, nearest)
    best = int(np.argmin(totals))
    saving, moved = now - float(totals[best]), None
    if saving >= LEAST_SAVING and best != home:
        moved = PrimaryPlan(names[best], float(totals[best]), saving)
    return Advice(
        latency=now,
        nearest=switched if now - switched >= LEAST_SAVING else None,
        write_ratio=float(weights @ ~is_read),
        replicas=tuple(plans),
        primary=moved,
    )


def _moved(
    costs: np.ndarray, replicas: np.ndarray, weights: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Return the mean latency with the primary in each region, s, shape (R,)."""
    copies = replicas.min(axis=1, initial=np.inf)
    least = np.where(nearest[:, None], np.minimum(costs, copies[:, None]), costs)
    return np.asarray(weights @ least)


def _total(
    costs: np.ndarray, weights: np.ndarray, base: np.ndarray, chosen: Sequence[int]
) -> float:
    return float(weights @ np.minimum(base, costs[:, list(chosen)].min(axis=1, initial=np.inf)))


def _best_next(
    costs: np.ndarray, weights: np.ndarray, base: np.ndarray, chosen: Sequence[int]
) -> int:
    have = np.minimum(base, costs[:, list(chosen)].min(axis=1, initial=np.inf))
    totals = weights @ np.minimum(costs, have[:, None])
    totals[list(chosen)] = np.inf
    return int(np.argmin(totals))


def _best_exchange(
    costs: np.ndarray, weights: np.ndarray, base: np.ndarray, chosen: Sequence[int]
) -> tuple[int, int] | None:
    """Return the slot and the column of the exchange that saves most, or None."""
    best, found = _total(costs, weights, base, chosen) - LEAST_SAVING, None
    for slot in range(len(chosen)):
        others = [*chosen[:slot], *chosen[slot + 1 :]]
        column = _best_next(costs, weights, base, others)
        total = _total(costs, weights, base, [*others, column])
        if total < best:
            best, found = total, (slot, column)
    return found


def _by_gain(
    costs: np.ndarray, weights: np.ndarray, base: np.ndarray, chosen: Sequence[int]
) -> list[int]:
    ordered: list[int] = []
    for _ in chosen:
        rest = [c for c in chosen if c not in ordered]
        ordered.append(min(rest, key=lambda c: _total(costs, weights, base, [*ordered, c])))
    return ordered
