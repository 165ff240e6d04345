"""What is written at once, what can wait, and what all of it may cost."""

from __future__ import annotations

import pytest

from onetrip.cluster.pace import BASE_INTERVAL, BEATS, CREDIT, READ_RATE, Pace, beat_interval


def test_news_waits_until_what_was_written_before_is_paid() -> None:
    pace = Pace()
    assert pace.is_due(0.0, is_news=True, is_urgent=False)
    assert not pace.is_due(0.0, is_news=False, is_urgent=False)
    pace.wrote(READ_RATE, 4, 0.0)  # four readers of what one may read in a second
    assert not pace.is_due(3.9, is_news=True, is_urgent=False)
    assert pace.is_due(4.0, is_news=True, is_urgent=False)


def test_what_is_urgent_waits_for_little() -> None:
    pace = Pace()
    pace.wrote(READ_RATE, int(CREDIT), 0.0)
    assert pace.is_due(0.0, is_news=True, is_urgent=True)
    pace.wrote(READ_RATE, 5, 0.0)
    assert not pace.is_due(4.9, is_news=True, is_urgent=True)
    assert pace.is_due(5.0, is_news=True, is_urgent=True)


@pytest.mark.parametrize("is_urgent", [False, True])
@pytest.mark.parametrize(("regions", "size"), [(3, 2_000), (330, 500), (330, 30_000)])
def test_what_all_nodes_read_of_one_stays_within_the_rate(
    is_urgent: bool, regions: int, size: int
) -> None:
    """News at every look for ten minutes."""
    pace, written, end = Pace(), 0, 600
    for second in range(end):
        if pace.is_due(float(second), is_news=True, is_urgent=is_urgent):
            pace.wrote(size, regions, float(second))
            written += size
    share = READ_RATE / regions
    assert written <= share * (end + CREDIT) + size
    assert written >= min(0.5 * share * end, end * size)


def test_a_whole_report_is_written_now_and_then_whatever_it_costs() -> None:
    pace = Pace()
    assert pace.is_base_due(0.0)
    pace.wrote(100_000_000, 330, 0.0, is_base=True)
    assert not pace.is_due(BASE_INTERVAL - 1, is_news=True, is_urgent=True)
    assert not pace.is_base_due(BASE_INTERVAL - 1)
    assert pace.is_base_due(BASE_INTERVAL)


def test_signs_of_life_are_bounded_whatever_the_size_of_the_cluster() -> None:
    assert beat_interval(1.0, 3) == 1.0
    for regions in (30, 330, 3300):
        assert regions / beat_interval(1.0, regions) <= BEATS
