"""Rows over a store: no statement is lost, whoever is faster, and nothing forged is believed."""

from __future__ import annotations

import pytest

from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.shared_rows import (
    AUDIT_INTERVAL,
    EARLIEST,
    LATEST,
    MAX_KEY,
    MAX_WRITES,
    Row,
    key_of,
    seal,
    thing_of,
    unseal,
)
from onetrip.errors import PeerError
from onetrip.model.resource import ResourceKey, ResourceKind
from onetrip.model.topology import RegionId
from support.clock import VirtualClock
from support.fake_bus import Stored
from support.shared_rows import Sharer, policy, resource

SECRET = b"shared"


class Cluster:
    """Two nodes and a store."""

    def __init__(self, other: bytes = SECRET) -> None:
        self.stored, self.clock = Stored(), VirtualClock()
        self.den = Sharer("den", self.stored, self.clock)
        self.bom = Sharer("bom", self.stored, self.clock, other)

    async def open(self) -> None:
        await self.den.open()
        await self.bom.open()

    def in_store(self, row: Row) -> Row:
        key = key_of(thing_of(row))
        return unseal(SECRET, key, self.stored.bytes_of(key))


async def test_a_statement_reaches_the_others_by_the_watch_alone() -> None:
    cluster = Cluster()
    await cluster.open()
    rows = [resource("a"), policy(1)]
    await cluster.den.declare(*rows)
    assert cluster.den.wakes == 1
    await cluster.den.tick()
    await cluster.bom.settle()
    assert cluster.bom.ledger.rows() == rows
    assert cluster.bom.rows_counted("taken") == 2
    assert cluster.den.rows_counted("written") == 2


async def test_what_arrived_is_not_written_again() -> None:
    cluster = Cluster()
    await cluster.open()
    await cluster.den.declare(resource("a"))
    await cluster.den.tick()
    cluster.clock.step(LATEST + 1)
    for node in (cluster.bom, cluster.den):
        await node.tick()
    assert cluster.stored.writes == 1


async def test_two_statements_at_once_are_both_kept_and_the_greater_counts() -> None:
    cluster = Cluster()
    await cluster.open()
    low, high = policy(2, "bom"), policy(2, "den")
    await cluster.den.declare(high)

    def faster() -> None:
        cluster.den.bucket.before_swap = lambda: None
        cluster.stored.write(key_of("shop"), seal(SECRET, low))

    cluster.den.bucket.before_swap = faster
    await cluster.den.tick()
    assert cluster.den.rows_counted("conflict") == 1
    assert cluster.in_store(high) == high
    await cluster.bom.settle()
    assert cluster.bom.ledger.rows() == [high]


async def test_whoever_was_faster_with_the_greater_statement_is_merged() -> None:
    cluster = Cluster()
    await cluster.open()
    low, high = policy(2, "bom"), policy(2, "den")
    await cluster.bom.declare(low)
    cluster.stored.watchers.clear()  # bom does not hear of it before it writes
    cluster.stored.write(key_of("shop"), seal(SECRET, high))
    await cluster.bom.tick()
    assert cluster.bom.ledger.rows() == [high]
    assert cluster.in_store(high) == high


async def test_what_was_declared_while_the_store_was_lost_arrives_after_it() -> None:
    cluster = Cluster()
    await cluster.open()
    cluster.den.bucket.is_down = True
    await cluster.den.declare(resource("a"))
    await cluster.den.tick()
    assert cluster.stored.writes == 0
    cluster.den.bucket.is_down = False
    await cluster.den.open()
    await cluster.den.tick()
    await cluster.bom.settle()
    assert cluster.bom.ledger.rows() == [resource("a")]


async def test_a_node_that_was_away_is_told_everything_at_one_go() -> None:
    cluster = Cluster()
    await cluster.den.open()
    rows = [resource(f"d{n}") for n in range(20)]
    await cluster.den.declare(*rows)
    await cluster.den.tick()
    await cluster.bom.open()
    assert cluster.bom.ledger.rows() == rows
    assert len(cluster.bom.ledger.takes) == 1


async def test_rows_of_a_node_without_the_store_are_written_by_another_one_later() -> None:
    cluster = Cluster()
    await cluster.open()
    row = resource("a", origin="fra")
    await cluster.den.declare(row)
    await cluster.den.tick()
    assert cluster.stored.writes == 0
    cluster.clock.step(EARLIEST - 1)
    await cluster.den.tick()
    assert cluster.stored.writes == 0
    cluster.clock.step(LATEST)
    await cluster.den.tick()
    await cluster.bom.settle()
    assert cluster.bom.ledger.rows() == [row]


async def test_an_older_row_in_the_store_is_replaced() -> None:
    cluster = Cluster()
    new = resource("a", version=3)
    await cluster.den.ledger.take([new])
    await cluster.den.open()
    cluster.stored.write(key_of(new.key), seal(SECRET, resource("a", version=2)))
    cluster.clock.step(LATEST + 1)
    await cluster.den.tick()
    assert cluster.in_store(new) == new


async def test_a_store_that_lost_everything_is_filled_again() -> None:
    cluster = Cluster()
    await cluster.open()
    await cluster.den.declare(resource("a"), resource("b", origin="bom"))
    await cluster.den.tick()
    cluster.stored.values.clear()
    await cluster.open()
    await cluster.den.tick()
    await cluster.bom.tick()
    cluster.clock.step(LATEST + 1)
    await cluster.den.tick()
    await cluster.bom.tick()
    assert len(cluster.stored.values) == 2


async def test_a_row_that_somebody_deleted_from_the_store_is_written_again() -> None:
    cluster = Cluster()
    await cluster.open()
    row = resource("a")
    await cluster.den.declare(row)
    await cluster.den.tick()
    cluster.stored.write(key_of(row.key), None)
    cluster.clock.step(AUDIT_INTERVAL + 1)
    await cluster.den.tick()
    assert cluster.in_store(row) == row


async def test_what_is_gone_for_long_is_neither_taken_nor_kept_in_the_store() -> None:
    cluster = Cluster()
    row = resource("a", body=b"")
    cluster.stored.write(key_of(row.key), seal(SECRET, row))
    cluster.den.ledger.over.add(row.key)
    await cluster.den.open()
    assert cluster.den.ledger.rows() == []
    cluster.clock.step(LATEST + 1)
    await cluster.den.tick()
    assert cluster.stored.values[key_of(row.key)].value is None


async def test_one_round_writes_a_bounded_number() -> None:
    cluster = Cluster()
    await cluster.open()
    await cluster.den.declare(*(resource(f"d{n}") for n in range(MAX_WRITES + 1)))
    await cluster.den.tick()
    assert cluster.stored.writes == MAX_WRITES
    await cluster.den.tick()
    assert cluster.stored.writes == MAX_WRITES + 1


async def test_rows_that_cannot_be_taken_are_tried_again() -> None:
    cluster = Cluster()
    await cluster.open()
    taken, cluster.bom.ledger.take = cluster.bom.ledger.take, refusing
    await cluster.den.declare(resource("a"))
    await cluster.den.tick()
    await cluster.bom.settle()
    assert [str(error) for error in cluster.bom.errors] == ["disk full"]
    cluster.bom.ledger.take = taken
    cluster.clock.step(LATEST + 1)
    await cluster.bom.tick()
    assert cluster.bom.ledger.rows() == [resource("a")]


async def refusing(rows: object) -> None:
    raise OSError("disk full")


async def test_another_secret_is_refused_and_counted() -> None:
    cluster = Cluster(other=b"another")
    await cluster.open()
    await cluster.bom.declare(resource("a", origin="bom"))
    await cluster.bom.tick()
    await cluster.den.settle()
    assert cluster.den.ledger.rows() == []
    assert cluster.den.rows_counted("refused") == 1


async def test_what_was_forged_is_replaced_by_what_is_known() -> None:
    cluster = Cluster()
    row = resource("a")
    await cluster.den.ledger.take([row])
    cluster.stored.write(key_of(row.key), b"forged")
    await cluster.den.open()
    await cluster.den.tick()
    assert cluster.in_store(row) == row


@pytest.mark.parametrize(
    ("thing", "key"),
    [
        ("shop", "policy.shop"),
        (ResourceKey(ResourceKind.DOMAIN, "", "*.shop.test"), "domain.=.=2A=2Eshop=2Etest"),
        (ResourceKey(ResourceKind.BINDING, "a", "é=."), "binding.a.=C3=A9=3D=2E"),
    ],
)
def test_keys_can_be_read_and_hold_what_nats_takes(thing: ResourceKey | str, key: str) -> None:
    assert key_of(thing) == key


def test_long_names_have_short_keys_of_their_own() -> None:
    keys = {key_of(ResourceKey(ResourceKind.DOMAIN, "", letter * 300)) for letter in "é漢"}
    assert len(keys) == 2
    assert max(map(len, keys)) <= MAX_KEY


@pytest.mark.parametrize("row", [resource("a"), policy(3), resource("gone", body=b"")])
def test_sealing_keeps_a_row(row: Row) -> None:
    key = key_of(thing_of(row))
    assert unseal(SECRET, key, seal(SECRET, row)) == row


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("policy.shop", b""),
        ("policy.shop", b"\xc1"),
        ("policy.shop", seal(b"another", policy(1))),
        ("policy.other", seal(SECRET, policy(1))),
        ("deployment.shop.b", seal(SECRET, resource("a"))),
        ("policy.shop", seal(SECRET, PolicyRow("shop", -1, RegionId("den")))),
    ],
)
def test_what_is_no_row_of_its_key_is_refused(key: str, value: bytes) -> None:
    with pytest.raises(PeerError):
        unseal(SECRET, key, value)
