"""The node at a glance: what is not well is said, with its reason."""

from __future__ import annotations

from onetrip.control.summary import status_body
from support.fake_view import FakeView


def test_a_node_that_is_well_has_no_problem() -> None:
    view = FakeView()
    body = status_body(view, view.now)
    assert not any("NATS" in problem for problem in body.problems)


def test_nats_out_of_reach_is_a_problem_with_its_reason() -> None:
    view = FakeView(nats_reason="cluster.nats: nats://a:4222: no servers available")
    body = status_body(view, view.now)
    assert body.state == "degraded"
    assert [p for p in body.problems if "NATS" in p] == [
        "NATS cannot be used, what is known is used on: "
        "cluster.nats: nats://a:4222: no servers available"
    ]
