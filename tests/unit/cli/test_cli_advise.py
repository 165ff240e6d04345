"""The text of `onetrip advise replicas`."""

from __future__ import annotations

import asyncio

import msgspec

from onetrip.cli.advise import text
from onetrip.control.advice import ReplicaAdviceBody, ReplicaPlaceRow, advice_body
from support.fake_view import FakeView


def body() -> ReplicaAdviceBody:
    return advice_body(asyncio.run(FakeView().advise_replicas(None)))


def test_plans_are_a_table_and_what_is_missing_a_line() -> None:
    assert text(body()).split("\n") == [
        "orders-db: primary in bom, orders-db/fra in fra",
        "  now: 150.0 ms a request over 1,284 requests, 10 % of which may write",
        "  with reads: nearest of what there is: 130.0 ms",
        "  ADD REPLICAS IN  THEN ms  SAVING ms  SYNC COMMIT ms",
        "  den                100.0       50.0          +229.0",
        "  den, fra            80.0       70.0          +229.0",
        "  or move the primary to fra: 120.0 ms, saving 30.0 ms",
        "",
        "cache: primary in ?",
        "  needs an RTT to it",
    ]


def test_after_a_failover_the_primary_is_named() -> None:
    row = msgspec.structs.replace(
        body().backends[0],
        primary_endpoint="orders-db/fra",
        primary="fra",
        replicas=[ReplicaPlaceRow("orders-db", "bom")],
    )
    title, *_ = text(ReplicaAdviceBody([row])).split("\n")
    assert title == "orders-db: primary orders-db/fra in fra, orders-db in bom"


def test_nothing_bound_is_said() -> None:
    assert text(ReplicaAdviceBody([])) == "no backend is bound"
