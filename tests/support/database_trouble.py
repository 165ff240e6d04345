"""What happens to the servers of a database while clients use it, one thing after another.

Commits wait for one of two replicas, so that a failover to the one that has received most loses
nothing that was answered for; that one is promoted.
"""

from __future__ import annotations

from collections.abc import Callable

from support.listed_databases import MARIADB_TABLE, POSTGRES_TABLE, Lists
from support.replicated_mariadb import MariadbGroup
from support.replicated_postgres import PostgresGroup, PostgresServer
from support.waits import soon

Wait = Callable[[], None]
"""Returns when clients have met the present state of things for a while."""

POSTGRES_SETTINGS = ("synchronous_standby_names=ANY 1 (*)",)
POSTGRES_STATEMENTS = (POSTGRES_TABLE, "CREATE ROLE watcher LOGIN")

MARIADB_OPTIONS = (
    "--rpl-semi-sync-slave-enabled=ON",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    "--rpl-semi-sync-master-timeout=30000",
)
MARIADB_STATEMENTS = (
    "CREATE USER watcher@'127.0.0.1' IDENTIFIED BY ''",
    "GRANT SLAVE MONITOR, REPLICATION MASTER ADMIN ON *.* TO watcher@'127.0.0.1'",
    "CREATE DATABASE app",
    MARIADB_TABLE,
    "SET GLOBAL rpl_semi_sync_master_enabled=ON",  # only now: before, nobody would have answered
)


def trouble_postgres(group: PostgresGroup, lists: Lists, go_on: Wait) -> None:
    """Pause, delay, kill and restart standbys, then crash the primary and promote one."""
    first, second = group.standbys
    go_on()
    for standby in (first, second):
        standby.pause_replay()
        go_on()
        standby.resume_replay()
    first.delay_replay(0.3)
    go_on()
    for standby in (second, first):
        standby.kill()
        go_on()
        standby.start()
        go_on()
    first.delay_replay(0)
    old = group.primary
    old.kill()
    chosen = max(group.standbys, key=_received)
    group.failover(chosen)
    lists.primary = f"db/r{[first, second].index(chosen) + 1}"
    go_on()
    group.standbys[0].pause_replay()
    go_on()
    group.standbys[0].resume_replay()
    group.settle()


def trouble_mariadb(group: MariadbGroup, lists: Lists, go_on: Wait) -> None:
    """Pause, delay, kill and restart replicas, then crash the primary and promote one."""
    first, second = group.replicas
    go_on()
    for replica in (first, second):
        replica.pause_replay()
        go_on()
        replica.resume_replay()
    first.delay_replay(1)
    go_on()
    first.delay_replay(0)
    for replica in (second, first):
        replica.kill()
        go_on()
        replica.start()
        go_on()
    # A replica that is started again throws away what it had received and not applied, although it
    # was counted as safe: one crash more at that moment, and MariaDB loses it.
    group.settle()
    group.primary.kill()
    chosen = max(group.replicas, key=lambda each: each.received_count)
    group.failover(chosen)
    lists.primary = f"db/r{[first, second].index(chosen) + 1}"
    go_on()
    group.replicas[0].pause_replay()
    go_on()
    group.replicas[0].resume_replay()
    group.settle()


def lag_only(group: PostgresGroup | MariadbGroup, go_on: Wait) -> None:
    """Let the first replica show nothing new for a while."""
    replica = group.standbys[0] if isinstance(group, PostgresGroup) else group.replicas[0]
    go_on()
    replica.pause_replay()
    try:
        go_on()
    finally:
        replica.resume_replay()
    soon(lambda: replica.has_replayed(group.primary.written))


def _received(standby: PostgresServer) -> int:
    """Return how many bytes of log a standby has written out."""
    return int(standby.query("SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn")[0][0])
