"""Guesses: which estimated regions are measured first, and that no estimate ever moves a route."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import EnvironmentId, Mode, Policy
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.placement import Status
from onetrip.model.topology import RegionId
from onetrip.place.defaults import EnvironmentInput, default_region
from onetrip.place.guesses import LONGEST_WAIT, MOST_GUESSES, Guesses
from onetrip.place.hysteresis import RouteState
from onetrip.place.placer import Placer, RouteInput
from support.world import matrix_of

ENV = EnvironmentId("shop", "production")
KEY = RouteKey(ENV, "/orders", MethodClass.READ)
REGIONS = tuple(RegionId(f"r{number:02}") for number in range(24))
EDGE, HOME = REGIONS[0], REGIONS[-1]
POLICY = Policy(mode=Mode.SMART, dwell=30.0)
NOW = 1000.0

LINE = np.abs(np.subtract.outer(np.arange(24.0), np.arange(24.0))) * 0.010
"""Regions on a line, 10 ms from one to the next: the edge at one end, the database at the other."""


def world(
    estimated: dict[RegionId, float], error: float = 0.1, inside: float = 0.0005
) -> RttMatrix:
    """The line as the edge knows it: the RTT to some regions is only an estimate."""
    matrix = matrix_of(REGIONS, LINE, {"db": HOME}, inside)
    for region, rtt in estimated.items():
        column = REGIONS.index(region)
        matrix.rtt[0, column] = rtt
        matrix.is_predicted[0, column] = matrix.is_stale[0, column] = True
        matrix.error[0, column] = error
    return matrix


def truly(regions: tuple[RegionId, ...]) -> dict[RegionId, float]:
    return {region: float(LINE[0, REGIONS.index(region)]) for region in regions}


def environment(policy: Policy = POLICY, *absent: RegionId) -> EnvironmentInput:
    ready = {region: True for region in REGIONS if region not in absent}
    return EnvironmentInput(ENV, policy, ("db",), ready)


ROUTE = RouteInput(
    key=KEY,
    is_local=False,
    declared={"db": 5},
    services=(),
    saving=None,
    requests=100,
    explored=0,
    upcoming=1.0,
    age=10.0,
)


def placer() -> Placer:
    made = Placer(EDGE)
    made.guesses = Guesses()
    return made


def named(made: Placer) -> tuple[RegionId, ...]:
    assert made.guesses is not None
    return made.guesses.named


def run(made: Placer, matrix: RttMatrix, now: float = NOW, env: EnvironmentInput | None = None):  # type: ignore[no-untyped-def]
    made.decide(matrix, [env or environment()], [ROUTE], now, now)
    return made.snapshot.routes[KEY]


def test_nothing_is_named_where_everything_is_measured() -> None:
    made = placer()
    assert run(made, world({})).regions[0] == HOME
    assert named(made) == ()


def test_best_guesses_are_named_and_the_best_one_first() -> None:
    made = placer()
    run(made, world(truly(REGIONS[4:])))
    assert len(named(made)) == MOST_GUESSES
    assert named(made)[0] == HOME
    assert set(named(made)) == set(REGIONS[-MOST_GUESSES:])


def test_route_waits_for_its_guesses_and_then_moves_to_what_is_measured() -> None:
    made = placer()
    found = run(made, world(truly(REGIONS[4:])))
    assert (found.status, found.regions[0]) == (Status.ANALYZING, EDGE)
    assert found.reason == "measuring regions that may be better still"
    found = run(made, world(truly(REGIONS[4:])), NOW + LONGEST_WAIT - 0.1)
    assert found.regions[0] == EDGE
    found = run(made, world(truly(REGIONS[4:])), NOW + LONGEST_WAIT)
    assert (found.status, found.regions[0]) == (Status.PLACED, REGIONS[3])


def test_route_moves_at_once_when_its_guesses_are_measured() -> None:
    made = placer()
    run(made, world(truly(REGIONS[4:])))
    found = run(made, world(truly(REGIONS[4:16])), NOW + 1.0)
    assert (found.status, found.regions[0]) == (Status.PLACED, HOME)
    assert named(made) == ()


@pytest.mark.parametrize("estimate", [0.0, 0.001, 0.2])
def test_no_route_ever_moves_to_an_estimate(estimate: float) -> None:
    made = placer()
    matrix = world(dict.fromkeys(REGIONS[4:], estimate), error=0.0)
    for second in range(0, 200, 5):
        found = run(made, matrix, NOW + second)
    assert found.regions[0] == REGIONS[3]
    assert made.guesses is not None
    assert REGIONS[3] in made.guesses.used


def test_estimate_is_given_the_benefit_of_its_error() -> None:
    estimate = {HOME: LINE[0, -1] + 0.060}
    made = placer()
    run(made, world(estimate, error=0.01))
    assert named(made) == (), "some measured region beats it for sure"
    run(made, world(estimate, error=0.25))
    assert named(made) == (HOME,)


def test_placed_route_asks_only_for_what_would_move_it() -> None:
    made = placer()
    run(made, world(truly((HOME,))))
    run(made, world(truly((HOME,))), NOW + LONGEST_WAIT)
    assert made.states()[KEY].region == REGIONS[-2]
    assert named(made) == (HOME,)
    run(made, world({HOME: float(LINE[0, -2]) + 0.041}, error=0.0), NOW + LONGEST_WAIT + 1)
    assert named(made) == (), "9 ms are less than the least gain"


def test_placement_is_kept_while_its_region_is_only_estimated() -> None:
    made = placer()
    made.restore({KEY: RouteState(HOME, NOW - 500.0)})
    found = run(made, world({HOME: 5.0}))
    assert (found.status, found.regions[0]) == (Status.PLACED, HOME)
    assert found.reason == "keeps its place while RTTs are unknown"
    assert made.guesses is not None
    assert next(r for r in made.guesses.used if r != EDGE) == HOME


def test_where_to_fail_over_to_is_measured_as_well() -> None:
    made = placer()
    made.restore({KEY: RouteState(HOME, NOW - 500.0)})
    estimates = truly(REGIONS[16:-1])
    run(made, world(estimates))
    assert named(made) == (), "none can beat the region beside the database"
    found = run(made, world(estimates), NOW + 1.0, environment(POLICY, HOME))
    assert found.regions[0] == REGIONS[-2], "a failover is no move: the best guess takes it"
    assert named(made)[0] == REGIONS[-2]


def test_region_without_a_ready_instance_is_no_guess() -> None:
    made = placer()
    run(made, world(truly(REGIONS[4:])), env=environment(POLICY, HOME))
    assert HOME not in named(made)
    run(made, world(truly(REGIONS[4:])), env=environment(replace(POLICY, deny=frozenset({HOME}))))
    assert HOME not in named(made)


def test_nothing_is_guessed_for_a_pinned_route_and_where_it_is_pinned_is_used() -> None:
    made = placer()
    run(made, world(truly(REGIONS[4:])), env=environment(replace(POLICY, hint=HOME)))
    assert named(made) == ()
    assert made.guesses is not None
    assert HOME in made.guesses.used


def test_what_the_toggle_would_do_is_measured_before_it_is_told() -> None:
    made, off = placer(), environment(replace(POLICY, mode=Mode.OFF))
    assert run(made, world(truly(REGIONS[4:])), env=off).status is Status.OFF
    assert named(made)[0] == HOME
    run(made, world({}), NOW + 1.0, off)
    (told,) = made.what_if()
    assert told.placement.regions[0] == HOME


def test_estimated_region_is_never_explored() -> None:
    made = placer()
    learning = replace(ROUTE, declared=None, requests=20)
    made.decide(world(truly(REGIONS[12:])), [environment()], [learning], NOW, NOW)
    found = made.snapshot.routes[KEY]
    assert found.explore not in REGIONS[12:]


def test_explanation_says_what_is_estimated_and_what_is_measured_now() -> None:
    made = placer()
    run(made, world(truly(REGIONS[4:])))
    (decision,) = made.decisions()
    verdicts = {c.region: c.verdict for c in decision.candidates}
    assert verdicts[HOME] == "RTT estimated, ± 23 ms: being measured"
    assert verdicts[REGIONS[8]] == "RTT estimated, ± 8 ms: starts no move"


def test_default_is_the_nearest_measured_region_before_any_estimated_one() -> None:
    usable = np.array([r in (REGIONS[5], REGIONS[9]) for r in REGIONS])
    assert default_region(world(truly((REGIONS[5],))), EDGE, usable) == 9
    assert default_region(world(truly(REGIONS[1:])), EDGE, usable) == 5


def test_nearer_default_is_measured_too() -> None:
    made = placer()
    away = [r for r in REGIONS if r not in (REGIONS[5], REGIONS[9])]
    run(made, world(truly((REGIONS[5],))), env=environment(POLICY, *away))
    assert named(made) == (REGIONS[5],)


def test_estimate_that_gives_way_to_a_measurement_is_no_shift() -> None:
    made = placer()
    assert run(made, world({HOME: 0.35}, error=0.4)).regions[0] == EDGE
    assert run(made, world({}), NOW + 1.0).regions[0] == HOME
