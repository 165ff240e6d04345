"""Replicas that a primary tells of: which are taken in, and under which names."""

import pytest

from onetrip.app.replica_finder import KEPT, MOST_REPLICAS, ReplicaFinder
from onetrip.model.catalog import Backend, BackendKind
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.topology import Endpoint, RegionId
from onetrip.probe.replication_base import SeenReplica

DEN, FRA = RegionId("den"), RegionId("fra")
ACCESS = ReplicationAccess(
    "u", "p", discover=((DEN, ("10.1.0.0/16", "fd00:1::/32")), (FRA, ("10.2.0.0/16",)))
)
DB = Backend("db", BackendKind.POSTGRES, Endpoint("10.1.0.1", 5432), replication=ACCESS)


def found(*seen: SeenReplica, backend: Backend = DB) -> list[tuple[str, str, RegionId | None]]:
    finder = ReplicaFinder()
    finder.note(backend, seen, 0.0)
    extended = finder.extend(backend)
    return [(r.name, str(r.endpoint), r.region) for r in extended.replicas]


@pytest.mark.parametrize(
    ("seen", "taken"),
    [
        (SeenReplica("fra_1", "10.2.0.7", 0), ("db/fra-1", "10.2.0.7:5432", FRA)),
        (SeenReplica("", "10.1.0.7", 3307), ("db/10-1-0-7-3307", "10.1.0.7:3307", DEN)),
        (SeenReplica("walreceiver", "10.1.0.7", 0), ("db/10-1-0-7-5432", "10.1.0.7:5432", DEN)),
        (SeenReplica("no name!", "fd00:1::7", 0), ("db/fd00-1-7-5432", "[fd00:1::7]:5432", DEN)),
    ],
)
def test_a_replica_inside_a_declared_network_is_taken_in_with_its_region(
    seen: SeenReplica, taken: tuple[str, str, RegionId]
) -> None:
    assert found(seen) == [taken]


@pytest.mark.parametrize(
    "host", ["10.3.0.1", "192.0.2.1", "169.254.169.254", "::1", "replica.example", "", "10.1.0.999"]
)
def test_nothing_outside_is_ever_dialled(host: str) -> None:
    assert found(SeenReplica("a", host, 5432)) == []


def test_two_of_one_name_are_told_apart_by_their_addresses() -> None:
    names = [
        n for n, _, _ in found(SeenReplica("a", "10.1.0.7", 0), SeenReplica("a", "10.1.0.8", 0))
    ]
    assert names == ["db/10-1-0-7-5432", "db/10-1-0-8-5432"]


def test_what_is_declared_stays_as_it_is_declared() -> None:
    declared = Replica("db/mine", Endpoint("10.1.0.7", 5432))
    backend = Backend("db", DB.kind, DB.endpoint, replicas=(declared,), replication=ACCESS)
    seen = (SeenReplica("a", "10.1.0.7", 0), SeenReplica("b", "10.1.0.1", 0))
    assert found(*seen, backend=backend) == [("db/mine", "10.1.0.7:5432", None)]


def test_there_are_so_many_at_most() -> None:
    seen = [SeenReplica(f"r{n}", f"10.1.1.{n}", 0) for n in range(MOST_REPLICAS + 5)]
    assert len(found(*seen)) == MOST_REPLICAS


def test_what_is_spoken_to_over_tls_is_so_where_it_was_found_too() -> None:
    primary = Endpoint("db.example", 6380, "db.example")
    backend = Backend("db", BackendKind.REDIS, primary, replication=ACCESS)
    finder = ReplicaFinder()
    finder.note(backend, [SeenReplica("", "10.2.0.7", 6380)], 0.0)
    (replica,) = finder.extend(backend).replicas
    assert replica.endpoint == Endpoint("10.2.0.7", 6380, "10.2.0.7")


def test_what_is_not_seen_for_long_is_forgotten_and_told() -> None:
    finder, seen = ReplicaFinder(), [SeenReplica("a", "10.1.0.7", 0)]
    assert finder.note(DB, seen, 0.0) == [("db/a", True)]
    extended = finder.extend(DB)
    assert finder.note(extended, seen, 30.0) == []
    assert finder.has_found("db", "db/a")
    assert finder.note(extended, [], 30.0 + KEPT) == []
    assert finder.note(extended, [], 31.0 + KEPT) == [("db/a", False)]
    assert finder.extend(DB) == DB
    finder.keep([])
    assert not finder.has_found("db", "db/a")


def test_without_networks_nothing_is_added() -> None:
    plain = Backend("db", DB.kind, DB.endpoint, replication=ReplicationAccess("u", "p"))
    assert found(SeenReplica("a", "10.1.0.7", 0), backend=plain) == []
