"""The token bucket of each caller, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from onetrip.control import rates
from onetrip.control.problems import RefusedError
from onetrip.control.rates import RateLimit


class Now:
    """A clock."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


def refusal(limit: RateLimit, caller: str) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        limit.take(caller)
    assert caught.value.status == 429
    return caught.value


def test_burst_is_permitted_at_once_and_refills_with_time(now: Now) -> None:
    limit = RateLimit(2.0, 4, now)
    left = [limit.take("ci")["RateLimit"] for _ in range(4)]
    assert left == [f'"default";r={r};t={t}' for r, t in ((3, 1), (2, 1), (1, 2), (0, 2))]
    refusal(limit, "ci")
    now.at += 0.5
    assert limit.take("ci")["RateLimit"] == '"default";r=0;t=2'
    refusal(limit, "ci")


def test_refusal_says_when_to_come_back_and_then_it_is_true(now: Now) -> None:
    limit = RateLimit(0.1, 1, now)
    limit.take("ci")
    now.at += 2.5
    wait = int(refusal(limit, "ci").headers["Retry-After"])
    assert wait == 8
    now.at += wait
    limit.take("ci")


def test_refused_requests_are_not_counted(now: Now) -> None:
    limit = RateLimit(1.0, 1, now)
    limit.take("ci")
    for _ in range(100):
        refusal(limit, "ci")
    now.at += 1.0
    limit.take("ci")


def test_callers_do_not_share(now: Now) -> None:
    limit = RateLimit(1.0, 1, now)
    limit.take("ci")
    limit.take("wall")
    refusal(limit, "ci")


def test_bucket_never_holds_more_than_the_burst(now: Now) -> None:
    limit = RateLimit(1.0, 2, now)
    limit.take("ci")
    now.at += 1e6
    assert limit.take("ci")["RateLimit"] == '"default";r=1;t=1'
    assert limit.take("ci")["RateLimit-Policy"] == '"default";q=2;w=2'


def test_callers_are_bounded_and_the_longest_unused_goes(
    now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "MAX_CALLERS", 3)
    limit = RateLimit(1e-6, 1, now)
    for caller in ("a", "b", "c"):
        limit.take(caller)
    refusal(limit, "a")
    limit.take("d")
    refusal(limit, "a")
    limit.take("b")
