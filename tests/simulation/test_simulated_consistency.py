"""Sessions over a database whose copies lag, stop, crash and take over: the promise holds."""

from __future__ import annotations

import pytest

from support.histories import OWN, SEEN
from support.simulated_sessions import SimulatedSessions

OPERATIONS = 6000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nobody_reads_the_past(seed: int) -> None:
    outcome = SimulatedSessions(seed, keeps=True).run(OPERATIONS)
    assert not outcome.violations, outcome
    assert outcome.operations > OPERATIONS * 0.8, outcome
    assert all(outcome.outcomes[name] for name in ("fresh", "waited", "primary")), outcome


@pytest.mark.parametrize("seed", range(2))
def test_whichever_worker_takes_a_request_nobody_sees_the_past(seed: int) -> None:
    outcome = SimulatedSessions(seed, keeps=True, workers=3).run(OPERATIONS)
    assert not outcome.violations, outcome
    assert outcome.operations > OPERATIONS * 0.8, outcome
    assert all(outcome.outcomes[name] for name in ("fresh", "waited", "primary")), outcome


def test_without_the_promise_the_checker_finds_the_past() -> None:
    outcome = SimulatedSessions(1, keeps=False).run(OPERATIONS)
    assert outcome.violations[OWN] > 10, outcome
    assert outcome.violations[SEEN] > 10, outcome
    assert len(outcome.faults) > 2, outcome


def test_a_run_repeats_exactly() -> None:
    first, second = (SimulatedSessions(5, keeps=True).run(500) for _ in range(2))
    assert first == second
