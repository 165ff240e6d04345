"""The replicated servers of the tests do what tests of replication take for granted."""

from __future__ import annotations

from support.replicated_mariadb import replicated_mariadb
from support.replicated_postgres import replicated_postgres


def test_postgres_standbys_lag_crash_and_are_promoted() -> None:
    with replicated_postgres(2, statements=["CREATE TABLE t (a int)"]) as group:
        primary, standby = group.primary, group.standbys[0]
        assert [s.is_standby for s in group.servers] == [False, True, True]

        standby.pause_replay()
        primary.query("INSERT INTO t VALUES (1)")
        assert not standby.has_replayed(primary.written)
        assert standby.query("SELECT a FROM t") == []
        standby.resume_replay()
        group.settle()
        assert standby.query("SELECT a FROM t") == [[1]]

        standby.delay_replay(3600)
        primary.query("INSERT INTO t VALUES (2)")
        assert standby.query("SELECT a FROM t") == [[1]]
        standby.delay_replay(0)
        group.settle()

        standby.kill()
        primary.query("INSERT INTO t VALUES (3)")
        standby.start()
        group.settle()
        old = group.failover(standby)
        group.primary.query("INSERT INTO t VALUES (4)")
        group.rejoin(old)
        group.settle()
        assert old.is_standby
        for server in group.servers:
            assert server.query("SELECT a FROM t ORDER BY a") == [[1], [2], [3], [4]]


def test_mariadb_replicas_lag_crash_and_are_promoted() -> None:
    tables = ["CREATE DATABASE d", "CREATE TABLE d.t (a int)"]
    with replicated_mariadb(2, statements=tables) as group:
        primary, replica = group.primary, group.replicas[0]
        assert [s.is_replica for s in group.servers] == [False, True, True]

        replica.pause_replay()
        primary.query("INSERT INTO d.t VALUES (1)")
        assert not replica.has_replayed(primary.written)
        assert replica.query("SELECT a FROM d.t") == []
        replica.resume_replay()
        group.settle()
        assert replica.query("SELECT a FROM d.t") == [["1"]]

        replica.delay_replay(3600)
        primary.query("INSERT INTO d.t VALUES (2)")
        assert replica.query("SELECT a FROM d.t") == [["1"]]
        replica.delay_replay(0)

        replica.kill()
        primary.query("INSERT INTO d.t VALUES (3)")
        replica.start()
        group.settle()
        old = group.failover(replica)
        group.primary.query("INSERT INTO d.t VALUES (4)")
        old.start()
        old.follow(group.primary)
        group.replicas.append(old)
        group.settle()
        for server in group.servers:
            rows = server.query("SELECT a FROM d.t ORDER BY a")
            assert rows == [["1"], ["2"], ["3"], ["4"]]
