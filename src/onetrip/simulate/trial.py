"""One simulated run, from a seed to its arrays: every policy on the same requests and luck."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onetrip.simulate.engine import Fleet, Run, Settings
from onetrip.simulate.policies import Judge
from onetrip.simulate.timeline import Timeline, timeline
from onetrip.simulate.traffic import Draws, Requests, draw, latencies, poisson
from onetrip.simulate.world import Floats, World

ONETRIP = "onetrip"
"""Name of the product's own run among the policies."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to simulate.

    Attributes:
        count: requests drawn over `duration` s; unused when `requests` are given.
        warm_up: s left for learning; steady state is what comes after.
        requests: a log's requests, or None to draw them.
        event_at: when the change happened that routes are to be placed again for, s; None takes
            the last change of the world, if there is one.
    """

    world: World
    seed: int
    duration: float
    count: int = 0
    warm_up: float = 0.0
    settings: Settings = field(default_factory=Settings)
    requests: Requests | None = None
    event_at: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What came of it.

    Attributes:
        latencies: by policy, onetrip first and the oracle last, s, shape (N,).
        expected: true mean latencies, shape (P, E, K, R); see `Timeline.expected`.
    """

    plan: Plan
    line: Timeline
    requests: Requests
    draws: Draws
    run: Run
    latencies: dict[str, Floats]
    expected: Floats


def run_trial(plan: Plan) -> Trial:
    """Simulate one plan; the same plan gives the same trial.

    Raises:
        ConfigError: the plan holds a value outside its range.
    """
    # One stream for each purpose: a change of one must not shift the luck of the others.
    seeds = np.random.SeedSequence(plan.seed).spawn(4)
    arrivals, luck, probes, pairs = (np.random.default_rng(seed) for seed in seeds)
    line = timeline(plan.world)
    requests = plan.requests or poisson(plan.world, plan.count, plan.duration, arrivals)
    draws = draw(plan.world, line, requests, luck)
    run = Fleet(plan.world, line, requests, draws, plan.settings, probes).run(plan.duration)
    judge = Judge(plan.world, line, requests, draws, pairs)
    times = {ONETRIP: run.latency}
    for name, choose in judge.policies().items():
        times[name] = latencies(line, requests, draws, choose())
    return Trial(plan, line, requests, draws, run, times, judge.expected)
