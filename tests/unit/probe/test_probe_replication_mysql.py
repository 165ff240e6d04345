"""What MySQL's tables of replication mean, whatever the version calls their columns."""

from __future__ import annotations

import math
from typing import Any

import pytest

from onetrip.model.replication import NOTHING, Role, parse_position
from onetrip.probe.replication_mysql import look_of

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
APPLIED = parse_position(f"{UUID}:1-5")


def row(lag: int | None, *, new: bool, io: str = "Yes", sql: str = "Yes") -> dict[str, Any]:
    """Return a row of `SHOW REPLICA STATUS` (8.0.22 on) or of `SHOW SLAVE STATUS`."""
    who, whom = ("Replica", "Source") if new else ("Slave", "Master")
    return {f"{who}_IO_Running": io, f"{who}_SQL_Running": sql, f"Seconds_Behind_{whom}": lag}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("rows", "told", "is_replicating"),
    [
        ([(3, "Yes", "Yes")], 3.0, True),
        ([(0, "Yes", "Yes"), (7, "Yes", "Yes")], 7.0, True),
        ([(None, "Connecting", "Yes")], None, False),
        ([(None, "Yes", "No")], None, False),
        ([(3, "Yes", "Yes"), (None, "No", "Yes")], None, False),
    ],
)
def test_lag_is_that_of_the_slowest_source_and_unknown_where_one_stands(
    new: bool, rows: list[tuple[int | None, str, str]], told: float | None, is_replicating: bool
) -> None:
    made = [row(lag, new=new, io=io, sql=sql) for lag, io, sql in rows]
    look = look_of(made, APPLIED, is_primary=False)
    assert look.role is Role.REPLICA
    assert look.is_replicating is is_replicating
    assert look.told == told if told is not None else math.isnan(look.told)
    assert (look.position, look.answered) == (APPLIED, NOTHING)


def test_a_server_that_follows_nobody_and_takes_no_writes_is_a_replica_that_stands() -> None:
    look = look_of([], APPLIED, is_primary=False)
    assert (look.role, look.is_replicating) == (Role.REPLICA, False)


def test_what_a_primary_has_is_what_it_answered_for() -> None:
    look = look_of([], APPLIED, is_primary=True)
    assert (look.role, look.position, look.answered) == (Role.PRIMARY, APPLIED, APPLIED)
