"""Time what a node does besides requests, at a given size: one scoring round and one report.

Run: python tests/benchmark/bench_node.py [projects] [regions]
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import time

import numpy as np

from onetrip.app.scoring import Scorer
from onetrip.app.vetting import Vetting
from onetrip.cluster.messages import Report, encode_report
from onetrip.cluster.state import ClusterState
from onetrip.estimate.filters import RttBook
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Instance,
    Mode,
    Policy,
    Project,
)
from onetrip.model.measure import (
    Arm,
    EstimateState,
    MethodClass,
    Observation,
    RouteKey,
    RttEstimate,
    Sample,
    SampleKind,
    Target,
    TargetKind,
)
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.timing import MonotonicClock

ROUTES = 4
SAMPLES = 20


def build(projects: int, regions: int) -> tuple[Scorer, TrafficBook]:
    """Return a scorer whose node has seen `ROUTES` routes of every project."""
    clock, rng = MonotonicClock(), np.random.default_rng(1)
    names = [RegionId(f"r{i}") for i in range(regions)]
    topology = Topology({n: Region(n, n, proxy=Endpoint("127.0.0.1", 1)) for n in names})
    backends = {
        f"b{i}": Backend(f"b{i}", BackendKind.TCP, Endpoint("127.0.0.1", 1)) for i in range(50)
    }
    catalog = Catalog(dict(_project(i, names) for i in range(projects)), backends)
    rtts, traffic = RttBook(), TrafficBook(names[0])
    cluster = ClusterState(names[0], frozenset(names), 60.0)
    now = clock.now()
    for name in names[1:]:
        rows = [_estimate(Target(TargetKind.BACKEND, b), float(rng.random()) / 4) for b in backends]
        cluster.merge(Report(name, 1.0, 1, rtts=rows), now)
        rtts.record(
            Sample(Target(TargetKind.PEER, name), float(rng.random()) / 4, SampleKind.HTTP, now)
        )
    for backend in backends:
        target = Target(TargetKind.BACKEND, backend)
        rtts.record(Sample(target, float(rng.random()) / 4, SampleKind.HANDSHAKE, now))
    scorer = Scorer(
        names[0],
        rtts=rtts,
        traffic=traffic,
        cluster=cluster,
        vetting=Vetting(
            names[0], 4.0, metrics=Metrics(), log=silent_log(), tell=lambda *event: None
        ),
        clock=clock,
        metrics=Metrics(),
        log=silent_log(),
        publish=lambda snapshot: None,
        on_move=lambda move: None,
        on_drift=lambda drift: None,
    )
    scorer.update(topology, catalog)
    feed(scorer, catalog, names[0], now, SAMPLES)
    return scorer, traffic


def feed(scorer: Scorer, catalog: Catalog, edge: RegionId, now: float, count: int) -> None:
    """Let every route of every project serve `count` requests."""
    for environment in catalog.environments():
        for route in range(ROUTES):
            key = RouteKey(environment.id, f"/{route}", MethodClass.READ)
            for i in range(count):
                seen = Observation(
                    key, edge, edge, Arm.DEFAULT, 0.5, 0.5 + i / 1e3, False, False, now
                )
                scorer.observe(seen)


def _project(i: int, names: list[RegionId]) -> tuple[str, Project]:
    name = f"p{i}"
    instances = tuple(Instance(r, Endpoint("127.0.0.1", 1000 + n)) for n, r in enumerate(names))
    bindings = {f"d{j}": f"b{(i + j) % 50}" for j in range(2)}
    env = Environment(EnvironmentId(name, "production"), (f"{name}.test",), instances, bindings)
    return name, Project(name, Policy(mode=Mode.SMART), {"production": env})


def _estimate(target: Target, rtt: float) -> RttEstimate:
    return RttEstimate(target, rtt, rtt, 0.001, 9, 0, 0.0, EstimateState.FRESH)


def timed(name: str, work: object, rounds: int = 3) -> None:
    """Print the median time of `work`."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    print(f"  {name:34} {sorted(times)[rounds // 2] * 1e3:9.1f} ms")


def main() -> None:
    """Build, time and profile."""
    projects = int(sys.argv[1]) if len(sys.argv) > 1 else 250
    regions = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    scorer, _ = build(projects, regions)
    print(f"{projects} projects x {ROUTES} routes x {regions} regions")
    timed("scoring round, quiet", lambda: asyncio.run(scorer.run_once()))

    def busy() -> None:
        feed(scorer, scorer.catalog, RegionId("r0"), time.monotonic(), 1)
        asyncio.run(scorer.run_once())

    timed("scoring round, every route had traffic", busy)
    timed("explain everything", lambda: scorer.placer.decisions())
    timed("what-if of everything", lambda: scorer.placer.what_if())
    decisions = scorer.placer.decisions()
    timed(
        "encode the explanations",
        lambda: encode_report(Report(RegionId("r0"), 1.0, 1, decisions=decisions)),
    )
    if "--profile" in sys.argv:
        with cProfile.Profile() as profile:
            busy()
        pstats.Stats(profile).sort_stats("cumtime").print_stats(25)


if __name__ == "__main__":
    main()
