"""Who is the primary, which replica may serve, and what a position is worth after a crash."""

import pytest

from onetrip.model.replication import Role
from onetrip.relay.standing import Standings

NAMES = ("primary", "near", "far")


def standings() -> Standings:
    made = Standings(NAMES)
    see(made, "primary", 80, in_recovery=False, rtt=0.05)
    see(made, "near", 90, rtt=0.001)
    see(made, "far", 100, rtt=0.02)
    return made


def see(
    made: Standings,
    name: str,
    position: int,
    *,
    in_recovery: bool = True,
    rtt: float | None = None,
    timeline: int = 1,
) -> bool:
    return made.observe(
        name, in_recovery=in_recovery, position=position, timeline=timeline, at=0.0, rtt=rtt
    )


def test_the_nearest_replica_that_reached_the_floor_serves() -> None:
    made = standings()
    assert made.primary == "primary"
    assert made.nearest_fresh() == "near"
    made.wrote(95)
    assert (made.floor, made.written) == (95, 95)
    assert made.nearest_fresh() == "far"
    made.raise_floor(101)
    assert made.nearest_fresh() is None
    assert made.written == 95
    see(made, "near", 101, rtt=0.001)
    assert made.nearest_fresh() == "near"


def test_the_floor_begins_with_the_first_primary() -> None:
    made = Standings(NAMES)
    see(made, "near", 90, rtt=0.001)
    assert made.nearest_fresh() == "near"
    see(made, "primary", 91, in_recovery=False, rtt=0.05)
    assert (made.floor, made.written) == (91, 0)
    assert made.nearest_fresh() is None


def test_the_floor_never_falls_by_what_is_written() -> None:
    made = standings()
    made.wrote(95)
    made.wrote(50)
    made.raise_floor(60)
    assert (made.floor, made.written) == (95, 95)


def test_an_answer_that_was_overtaken_takes_nothing_back() -> None:
    made = standings()
    see(made, "near", 98, rtt=0.001)
    see(made, "near", 91, rtt=0.001)
    assert made.by_name["near"].position == 98


def test_a_replica_that_came_back_is_believed_only_what_it_says_now() -> None:
    made = standings()
    made.wrote(90)
    assert made.nearest_fresh() == "near"
    made.lost("near")
    assert made.nearest_fresh() == "far"
    see(made, "near", 80)
    assert made.by_name["near"].position == 80
    assert made.nearest_fresh() == "far"


def test_a_broken_connection_makes_a_position_doubtful() -> None:
    made = standings()
    made.wrote(90)
    made.doubt("near")
    assert made.nearest_fresh() == "far"
    see(made, "near", 90, rtt=0.001)
    assert made.nearest_fresh() == "near"


def test_rtt_is_smoothed() -> None:
    made = standings()
    see(made, "near", 90, rtt=0.009)
    assert made.by_name["near"].rtt == pytest.approx(0.002)


def test_the_primary_stays_while_nobody_else_claims() -> None:
    made = standings()
    made.lost("primary")
    assert made.primary == "primary"
    assert made.by_name["primary"].role is Role.UNKNOWN


def test_a_promoted_replica_is_the_primary_and_sets_the_floor() -> None:
    made = standings()
    made.wrote(120)  # of which 20 were lost with the primary
    made.lost("primary")
    assert see(made, "far", 100, in_recovery=False, rtt=0.02, timeline=2)
    assert (made.primary, made.floor, made.written) == ("far", 100, 100)
    see(made, "primary", 130, in_recovery=False)  # it comes back and knows nothing
    assert made.primary == "far"
    made.lost("far")
    assert made.primary == "far"  # still not the former one


def test_a_former_primary_that_never_noticed_is_left() -> None:
    made = standings()
    assert see(made, "far", 100, in_recovery=False, rtt=0.02, timeline=2)
    assert made.primary == "far"
    see(made, "primary", 140, in_recovery=False, rtt=0.05)
    assert (made.primary, made.floor) == ("far", 100)


def test_a_change_by_way_of_nobody_sets_the_floor_too() -> None:
    made = standings()
    made.wrote(120)
    assert see(made, "primary", 100)  # demoted
    assert made.primary is None
    assert see(made, "near", 95, in_recovery=False, rtt=0.001)
    assert (made.primary, made.floor) == ("near", 95)


def test_a_primary_that_lost_commits_in_a_crash_lowers_the_floor_to_what_it_has() -> None:
    made = standings()
    made.wrote(120)
    made.lost("primary")
    see(made, "primary", 110, in_recovery=False)
    assert made.floor == 110
    made.wrote(115)
    see(made, "primary", 112, in_recovery=False)  # a connection that was slower to open
    assert made.floor == 115
