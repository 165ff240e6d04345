"""Endpoints of a database in the status: as rows, as problems, and as lines of `onetrip status`."""

from __future__ import annotations

import math

from onetrip.cli import render
from onetrip.control.replica_rows import problems_of, replica_rows
from onetrip.control.summary import status_body
from onetrip.model.replication import EndpointState, Role, lsn
from onetrip.model.status import EndpointStatus
from onetrip.model.topology import RegionId
from support.fake_view import NOW, FakeView

FRA = RegionId("fra")


def status(
    endpoint: str,
    state: EndpointState | None,
    *,
    is_read: bool = True,
    region: RegionId | None = None,
) -> EndpointStatus:
    is_primary = endpoint == "db"
    return EndpointStatus("db", endpoint, "db:1", region, state, is_primary, is_read, False, 5.0)


STATUSES = [
    status("db", EndpointState(Role.PRIMARY, lsn(255), 0.0, 0, age=0.25, timeline=3)),
    status("db/a", EndpointState(Role.REPLICA, lsn(15), 12.5, 240), is_read=False, region=FRA),
    status("db/b", EndpointState(Role.REPLICA, lsn(15))),
    status("db/c", EndpointState(Role.UNKNOWN, problem="backends.db.replication.password: no")),
    status("db/d", None),
]


def test_what_is_not_known_is_null_and_times_are_milliseconds() -> None:
    rows = {row.endpoint: row for row in replica_rows(STATUSES)}
    assert (rows["db"].role, rows["db"].position, rows["db"].age) == ("primary", "0/FF", 0.25)
    late = rows["db/a"]
    assert (late.lag_ms, late.lag_bytes, late.max_lag_ms) == (12_500.0, 240, 5000.0)
    assert (late.region, late.is_replicating, late.is_read) == ("fra", True, False)
    assert math.isnan(STATUSES[2].state.lag)  # type: ignore[union-attr]
    assert rows["db/b"].lag_ms is None
    for name in ("db/c", "db/d"):
        row = rows[name]
        assert (row.role, row.lag_ms, row.age, row.is_replicating) == ("unknown", None, None, None)


def test_late_and_silent_endpoints_are_problems_of_the_node() -> None:
    wanted = [
        "db/a is not read from, 12.5 s behind",
        "db/c tells no position: backends.db.replication.password: no",
    ]
    assert problems_of(replica_rows(STATUSES)) == wanted
    view = FakeView()
    view.replication = STATUSES
    body = status_body(view, NOW)
    assert [text for text in body.problems if text.startswith("db/")] == wanted
    assert body.state == "degraded"


def test_each_endpoint_has_a_line() -> None:
    view = FakeView()
    view.replication = STATUSES
    lines = render.status(status_body(view, NOW)).split("\n")
    assert [line for line in lines if line.startswith("endpoint")] == [
        "endpoint  db, primary",
        "endpoint  db/a in fra, 12.5 s behind, not read from",
        "endpoint  db/b, lag unknown",
        "endpoint  db/c, lag unknown",
        "endpoint  db/d, lag unknown",
    ]
