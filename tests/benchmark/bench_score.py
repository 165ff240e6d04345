"""Time a full scoring run: 1,000 x 60 x 4 and 10,000 x 330 x 8 (projects x regions x backends).

Run: python tests/benchmark/bench_score.py
"""

from __future__ import annotations

import time

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId
from onetrip.place.frame import Costs, build_frame
from onetrip.place.score import score


def measure(projects: int, regions: int, backends: int, rounds: int = 5) -> float:
    """Return the median time of one scoring run, s."""
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
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        score(frame)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    for size, limit in (((1_000, 60, 4), 0.2), ((10_000, 330, 8), 1.0)):
        took = measure(*size)
        verdict = "within" if took < limit else "OVER"
        print(
            f"{size[0]} projects x {size[1]} regions x {size[2]} backends: "
            f"{took * 1e3:.1f} ms, {verdict} the limit of {limit * 1e3:.0f} ms"
        )
