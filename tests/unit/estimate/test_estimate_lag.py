"""How old a replica's data is, from what the primary was seen to have."""

import math

from hypothesis import given
from hypothesis import strategies as st

from onetrip.estimate.lag import MOST_SAMPLES, LagMeter
from onetrip.model.replication import NOTHING, lsn, offsets, parse_position

NAN = math.nan


def meter(*samples: tuple[float, int]) -> LagMeter:
    made = LagMeter()
    for at, position in samples:
        made.primary_has(lsn(position), at)
    return made


def test_a_replica_that_has_what_an_idle_primary_has_is_not_behind() -> None:
    # The trap: its last transaction is an hour old, and PostgreSQL says so.
    assert meter((10, 500), (12, 500)).lag(lsn(500), 13, 3600.0) == 0.0


def test_a_replica_that_lacks_what_was_there_before_is_at_least_that_far_behind() -> None:
    seen = meter((10, 100), (12, 200), (14, 300))
    assert seen.lag(lsn(150), 15, 0.0) == 3.0  # MySQL says 0 while its connection is down
    assert seen.lag(lsn(150), 15, 4.5) == 4.5
    assert seen.lag(lsn(150), 15, 3600.0) == 5.0


def test_without_the_databases_word_the_oldest_that_fits_counts() -> None:
    assert meter((10, 100), (12, 200)).lag(lsn(150), 13, NAN) == 3.0


def test_a_replica_ahead_of_the_last_look_is_as_old_as_that_look_at_most() -> None:
    seen = meter((10, 100), (12, 200))
    assert seen.lag(lsn(250), 13, 0.08) == 0.08
    assert seen.lag(lsn(250), 13, 3600.0) == 1.0


def test_what_lacks_everything_that_was_seen_is_older_than_the_first_look() -> None:
    seen = meter((10, 100), (12, 200))
    assert seen.lag(lsn(50), 16, NAN) == 6.0
    assert seen.lag(lsn(50), 16, 60.0) == 60.0


def test_without_a_primary_only_the_database_knows() -> None:
    assert LagMeter().lag(lsn(50), 16, 2.5) == 2.5
    assert math.isnan(LagMeter().lag(lsn(50), 16, NAN))
    assert LagMeter().lag_bytes(lsn(50)) is None


def test_another_primary_that_has_lost_something_starts_anew() -> None:
    seen = meter((10, 900), (12, 200))
    assert seen.lag(lsn(200), 13, NAN) == 0.0
    assert seen.lag_bytes(lsn(150)) == 50


def test_transactions_count_like_bytes() -> None:
    seen = LagMeter()
    seen.primary_has(NOTHING, 8)
    seen.primary_has(parse_position("0-1-100"), 10)
    seen.primary_has(parse_position("0-1-120"), 12)
    assert seen.lag(parse_position("0-1-110"), 15, NAN) == 5.0
    assert seen.lag_bytes(parse_position("0-1-110")) is None


ID, NEXT = "a" * 40, "b" * 40


def test_a_replica_that_follows_another_history_is_late_and_one_that_kept_the_old_is_not() -> None:
    seen = LagMeter()
    for at, offset in ((10, 100), (12, 200)):
        seen.primary_has(offsets((ID, offset)), at)
    assert seen.lag(offsets((NEXT, 500)), 13, 0.0) == 3.0
    # A failover that nobody has noticed yet: it follows the promoted one, and lost nothing.
    assert seen.lag(offsets((NEXT, 230), (ID, 210)), 13, 0.0) == 0.0
    seen.primary_has(offsets((NEXT, 240)), 14)
    assert seen.lag(offsets((NEXT, 240), (ID, 210)), 15, NAN) == 0.0
    assert seen.lag_bytes(offsets((NEXT, 230), (ID, 210))) == 10
    assert seen.lag(offsets((ID, 210)), 15, NAN) == 1.0
    assert seen.lag_bytes(offsets((ID, 210))) is None


def test_memory_is_bounded() -> None:
    seen = meter(*((at, at) for at in range(2 * MOST_SAMPLES)))
    assert seen.lag(lsn(0), 2 * MOST_SAMPLES, NAN) == MOST_SAMPLES


times = st.lists(st.floats(0.01, 5), min_size=1, max_size=12)


@given(times, st.data())
def test_the_true_lag_is_never_above_nor_below_what_can_be_known(
    gaps: list[float], data: st.DataObject
) -> None:
    # A primary that writes one change a second; a replica that shows what it had `behind` s ago.
    now, seen = 100.0, LagMeter()
    looked: list[float] = []
    for gap in gaps:
        now += gap
        looked.append(now)
        seen.primary_has(lsn(int(now)), now)
    asked_at = now + data.draw(st.floats(0, 3))
    behind = data.draw(st.floats(0, 20))
    told = seen.lag(lsn(max(0, int(asked_at - behind))), asked_at, NAN)
    if math.isnan(told):
        return
    # The last change it shows may be one second older than its data.
    assert told >= min(behind, asked_at - looked[0]) - max(gaps) - 1 or told == 0.0
    assert told <= behind + 1 + max(gaps) + (asked_at - looked[-1])
