"""Time a full scoring run: 1,000 x 60 x 4 and 10,000 x 330 x 8 (projects x regions x backends).

Run: python tests/benchmark/bench_score.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId
from onetrip.place.frame import Costs, build_frame
from onetrip.place.score import rescore, score


def measure(
    projects: int, regions: int, backends: int, rounds: int = 5
) -> tuple[float, float, float]:
    """Return median times, s: full scoring, one changed backend RTT, one changed edge RTT."""
    rng = np.random.default_rng(1)
    names = tuple(RegionId(f"r{i}") for i in range(regions))
    pool = tuple(f"b{i}" for i in range(max(backends, projects // 10)))
    keys = [
        RouteKey(EnvironmentId(f"p{i}", "production"), "/", MethodClass.READ)
        for i in range(projects)
    ]
    costs = []
    for _ in range(projects):
        bound = tuple(pool[j] for j in rng.choice(len(pool), backends, replace=False))
        covariance = np.diag(rng.random(backends))
        costs.append(Costs(bound, 0.01, rng.integers(0, 12, backends), covariance, 1.0))
    pairs, data = (regions, regions), (regions, len(pool))
    matrix = RttMatrix(
        regions=names,
        backends=pool,
        rtt=rng.random(pairs),
        is_stale=np.zeros(pairs, dtype=bool),
        is_failing=np.zeros(pairs, dtype=bool),
        is_predicted=np.zeros(pairs, dtype=bool),
        error=np.zeros(pairs),
        backend_rtt=rng.random(data),
        backend_is_stale=np.zeros(data, dtype=bool),
        backend_is_failing=np.zeros(data, dtype=bool),
    )
    default = np.zeros(projects, dtype=int)
    usable = np.ones((projects, regions), dtype=bool)
    frame = build_frame(matrix, names[0], keys, costs, default, usable)
    scores = score(frame)
    data_rtt = frame.backend_rtt.copy()
    data_rtt[3, 5] *= 1.1
    moved = replace(frame, backend_rtt=data_rtt)
    changed = np.zeros(data_rtt.shape, dtype=bool)
    changed[3, 5] = True
    edge_changed = np.zeros(data_rtt.shape, dtype=bool)
    edge_changed[3, -1] = True
    return (
        median(lambda: score(frame), rounds),
        median(lambda: rescore(moved, scores, changed), rounds),
        median(lambda: rescore(moved, scores, edge_changed), rounds),
    )


def median(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of `work`, s."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    for size, limit in (((1_000, 60, 4), 0.2), ((10_000, 330, 8), 1.0)):
        full, one, edge = measure(*size)
        print("{} projects x {} regions x {} backends".format(*size))
        for name, took, most in (
            ("full scoring", full, limit),
            ("one changed RTT region-backend", one, 0.010),
            ("one changed RTT edge-region", edge, 0.010),
        ):
            verdict = "within" if took < most else "OVER"
            print(f"  {name:32} {took * 1e3:8.2f} ms, {verdict} the limit of {most * 1e3:.0f} ms")
