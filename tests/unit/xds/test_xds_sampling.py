"""The share of requests that is logged: follows their number, and rests once it fits."""

from __future__ import annotations

import pytest

from onetrip.xds.sampling import FEW_WINDOWS, LEAST_RATIO, MOST, WINDOW, Sampler


def ratio_after(rate: float, windows: int, sampler: Sampler | None = None) -> float:
    sampler = sampler or Sampler(0.0)
    start = sampler.looked_at
    for number in range(1, windows + 1):
        sampler.note(round(rate * WINDOW * sampler.ratio))
        sampler.adjust(start + number * WINDOW)
    return sampler.ratio


@pytest.mark.parametrize(
    ("rate", "ratio"),
    [(0, 1.0), (MOST, 1.0), (MOST * 1.1, 0.5), (MOST * 6, 0.125), (1e12, LEAST_RATIO)],
)
def test_share_keeps_the_entries_below_the_most(rate: float, ratio: float) -> None:
    assert ratio_after(rate, 3) == ratio


def test_share_rests_while_the_rate_does() -> None:
    sampler = Sampler(0.0)
    ratio_after(MOST * 3, 2, sampler)
    assert {ratio_after(MOST * 3 * part, 3, sampler) for part in (1.0, 0.9, 1.1, 0.6)} == {0.25}


def test_share_grows_again_when_few_requests_come() -> None:
    sampler = Sampler(0.0)
    share = ratio_after(MOST * 100, 3, sampler)
    assert ratio_after(MOST / 10, FEW_WINDOWS - 1, sampler) == share
    assert ratio_after(MOST / 10, 1, sampler) == 2 * share
    assert ratio_after(MOST / 10, 20 * FEW_WINDOWS, sampler) == 1.0


def test_pause_between_bursts_leaves_the_share_as_it_was() -> None:
    sampler = Sampler(0.0)
    share = ratio_after(MOST * 100, 3, sampler)
    for _ in range(10):
        assert ratio_after(0, FEW_WINDOWS - 1, sampler) == share
        assert ratio_after(MOST * 100, 3, sampler) == share


def test_share_waits_for_a_whole_window() -> None:
    sampler = Sampler(0.0)
    sampler.note(10**6)
    assert not sampler.adjust(WINDOW / 2)
    assert sampler.adjust(WINDOW)
