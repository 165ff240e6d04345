"""A node beside real databases with replicas: lag, a promotion, a wrong account, discovery."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.model.measure import Target, TargetKind
from onetrip.model.replication import Role
from onetrip.model.status import EndpointStatus
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.probe.replication import ReplicationMonitor
from support.ports import free_ports
from support.replicated_mariadb import MariadbGroup, replicated_mariadb
from support.replicated_postgres import PostgresGroup, replicated_postgres
from support.replicated_redis import RedisGroup, replicated_redis
from support.waits import eventually, soon

WATCHER = [
    "SET password_encryption = 'scram-sha-256'",
    "CREATE ROLE watcher LOGIN PASSWORD 'the watcher'",
    "GRANT pg_monitor TO watcher",
    "CREATE TABLE notes (n int)",
]
HBA = ["host all watcher 127.0.0.1/32 scram-sha-256"]

Group = PostgresGroup | MariadbGroup | RedisGroup


class Watched:
    """A node and the database that it watches."""

    def __init__(self, folder: Path, group: Group, **replication: Any) -> None:
        self.group = group
        self.path = folder / "onetrip.yaml"
        self.secret = folder / "password"
        self.secret.write_text("the watcher\n")
        self.admin, self.listen = free_ports(2)
        self.write(**replication)
        self.node = Node(load_settings(self.path), log=Log(io.StringIO(), "info", time.time))

    def write(self, *, kind: str = "postgres", **replication: Any) -> None:
        """Write the configuration; the replicas of PostgreSQL and Redis are declared."""
        access = {
            "user": "watcher",
            "password_file": str(self.secret),
            "interval": 0.2,
            "max_lag": 1.0,
        }
        replicas = {} if "discover" in replication else self.declared()
        backend = {
            "kind": kind,
            "address": f"127.0.0.1:{self.group.primary.port}",
            "replicas": {name: {"address": address} for name, address in replicas.items()},
            "replication": access | replication,
        }
        environment = {
            "hosts": ["shop.test"],
            "instances": {"here": ["127.0.0.1:9"]},
            "bindings": {"db": {"backend": "db", "reads": "nearest"}},
        }
        config = {
            "listen": f"127.0.0.1:{self.listen}",
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "score_interval": 0.1,
            "probe": {"interval": 0.5},
            "regions": {"here": {}},
            "backends": {"db": backend},
            "projects": {"shop": {"environments": {"production": environment}}},
        }
        self.path.write_text(yaml.safe_dump(config))

    def declared(self) -> dict[str, str]:
        """Return the addresses of the replicas by name."""
        if isinstance(self.group, MariadbGroup):
            return {}
        replicas = (
            self.group.standbys if isinstance(self.group, PostgresGroup) else self.group.replicas
        )
        return {each.name: f"127.0.0.1:{each.port}" for each in replicas}

    def status(self, endpoint: str) -> EndpointStatus:
        return next(row for row in self.node.view.replicas() if row.endpoint == endpoint)

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return subject and detail of the events of a name, oldest first."""
        found = [each for each in self.node.view.events(100) if each.name == name]
        return [(each.subject, each.detail) for each in reversed(found)]

    async def until(self, endpoint: str, claim: Callable[[EndpointStatus], bool]) -> None:
        await eventually(lambda: claim(self.status(endpoint)), lambda: self.status(endpoint))


@asynccontextmanager
async def watched(folder: Path, group: Group, **replication: Any) -> AsyncIterator[Watched]:
    found = Watched(folder, group, **replication)
    await found.node.start()
    try:
        yield found
    finally:
        await found.node.stop(drain_timeout=0)


def knows(role: Role) -> Callable[[EndpointStatus], bool]:
    return lambda row: row.state is not None and row.state.role is role


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresGroup]:
    with replicated_postgres(hba=HBA, statements=WATCHER) as group:
        yield group


async def test_a_wrong_password_is_a_problem_that_names_its_field_and_is_mended_by_a_reload(
    tmp_path: Path, postgres: PostgresGroup
) -> None:
    async with watched(tmp_path, postgres) as world:
        world.secret.write_text("another one")
        await world.node.reload()
        await world.until("db", lambda row: row.state is not None and bool(row.state.problem))
        state = world.status("db").state
        assert state is not None
        assert state.problem.startswith("backends.db.replication.password: 127.0.0.1:")
        assert "another one" not in state.problem
        assert world.status("db/standby1").is_read, "what is not known changes nothing"
        await eventually(lambda: bool(world.events("probe.replica_silent")))
        world.secret.write_text("the watcher")
        await world.node.reload()
        await world.until("db", knows(Role.PRIMARY))


async def test_a_standby_that_lags_is_left_out_comes_back_and_can_become_the_primary(
    tmp_path: Path, postgres: PostgresGroup
) -> None:
    async with watched(tmp_path, postgres) as world:
        standby = postgres.standbys[0]
        await world.until("db", knows(Role.PRIMARY))
        await world.until("db/standby1", knows(Role.REPLICA))
        assert world.status("db/standby1").is_read
        standby.pause_replay()
        postgres.primary.query("INSERT INTO notes VALUES (1)")
        await world.until("db/standby1", lambda row: not row.is_read)
        ((subject, detail),) = world.events("probe.replica_lagging")
        assert subject == "db/standby1"
        assert "s behind" in detail or "stopped" in detail
        assert world.node.scorer.standing()[0] == {"db/standby1"}
        standby.resume_replay()
        await world.until("db/standby1", lambda row: row.is_read)
        assert [row[0] for row in world.events("probe.replica_fresh")] == ["db/standby1"]
        postgres.failover(standby)
        await world.until("db/standby1", lambda row: row.is_primary)
        assert not world.status("db").is_primary
        assert world.events("probe.primary_moved") == [("db/standby1", "was db")]
        assert world.node.scorer.standing()[1] == {"db": "db/standby1"}
        postgres.primary.query("INSERT INTO notes VALUES (2)")
        replication = world.node.replicas.replication
        assert replication is not None
        position = await replication.position("db")
        assert await replication.reached("db", "db/standby1", position, 10)


async def test_replicas_are_found_by_way_of_the_primary_inside_declared_networks_only(
    tmp_path: Path,
) -> None:
    account = "CREATE USER watcher@'127.0.0.1' IDENTIFIED BY 'the watcher'"
    grant = "GRANT SLAVE MONITOR, REPLICATION MASTER ADMIN ON *.* TO watcher@'127.0.0.1'"
    options = ["--report-host=127.0.0.1"]
    with replicated_mariadb(options=options, statements=[account, grant]) as group:
        elsewhere = {"here": ["10.0.0.0/8"]}
        async with watched(tmp_path, group, kind="mysql", discover=elsewhere) as world:
            await world.until("db", knows(Role.PRIMARY))
            replication = world.node.replicas.replication
            assert isinstance(replication, ReplicationMonitor)
            (seen,) = await replication.replicas("db")
            replica = f"127.0.0.1:{group.replicas[0].port}"
            assert f"{seen.host}:{seen.port}" == replica
            assert [row.endpoint for row in world.node.view.replicas()] == ["db"]
            world.write(kind="mysql", discover={"here": ["127.0.0.0/8"]})
            await world.node.reload()
            await eventually(lambda: len(world.node.view.replicas()) == 2)
            found = world.node.view.replicas()[1]
            assert (found.address, found.region, found.is_discovered) == (replica, "here", True)
            assert found.endpoint == f"db/127-0-0-1-{group.replicas[0].port}"
            await world.until(found.endpoint, knows(Role.REPLICA))
            assert world.events("probe.replicas_changed") == [(found.endpoint, "found")]
            rtts = world.node.view.rtt_rows
            target = Target(TargetKind.BACKEND, found.endpoint)
            await eventually(lambda: target in rtts().get(RegionId("here"), {}))


def as_user(password: str = "the watcher") -> tuple[str, ...]:
    """Return options of Redis for the account of least rights."""
    return ("--user", "watcher", "on", f"#{sha256(password.encode()).hexdigest()}", "+info")


async def test_a_redis_replica_that_lags_is_left_out_comes_back_and_can_become_the_primary(
    tmp_path: Path,
) -> None:
    with replicated_redis(2, options=as_user()) as group:
        async with watched(tmp_path, group, kind="redis") as world:
            replica, other = group.replicas
            await world.until("db", knows(Role.PRIMARY))
            await world.until("db/replica1", knows(Role.REPLICA))
            await world.until("db/replica2", knows(Role.REPLICA))
            valve = group.valves[replica.name]
            valve.shut()
            group.write()
            await world.until("db/replica1", lambda row: not row.is_read)
            ((subject, detail),) = world.events("probe.replica_lagging")
            assert (subject, "s behind" in detail) == ("db/replica1", True)
            assert world.node.scorer.standing()[0] == {"db/replica1"}
            valve.open()
            await world.until("db/replica1", lambda row: row.is_read)
            assert [row[0] for row in world.events("probe.replica_fresh")] == ["db/replica1"]
            group.failover(replica)
            await world.until("db/replica1", lambda row: row.is_primary)
            assert world.events("probe.primary_moved") == [("db/replica1", "was db")]
            assert world.node.scorer.standing()[1] == {"db": "db/replica1"}
            await eventually(lambda: world.node.scorer.reads.primary("db") == "db/replica1")
            (advice,) = await world.node.view.advise_replicas(None)
            assert advice.primary == "db/replica1"
            assert [name for name, _ in advice.replicas] == ["db", "db/replica2"]
            soon(lambda: other.has_all_of(replica))
            await world.until("db/replica2", lambda row: row.is_read)
            # It followed the promoted one before anybody knew of it, and was never late.
            assert "db/replica2" not in dict(world.events("probe.replica_lagging"))


async def test_a_redis_replica_that_hangs_is_told_and_one_that_was_found_is_asked(
    tmp_path: Path,
) -> None:
    with replicated_redis(options=as_user()) as group:
        discover = {"here": ["127.0.0.0/8"]}
        async with watched(tmp_path, group, kind="redis", discover=discover) as world:
            await eventually(lambda: len(world.node.view.replicas()) == 2)
            found = world.node.view.replicas()[1]
            assert found.endpoint == f"db/127-0-0-1-{group.replicas[0].port}"
            assert (found.region, found.is_discovered) == ("here", True)
            await world.until(found.endpoint, knows(Role.REPLICA))
            group.replicas[0].pause()
            try:
                await eventually(
                    lambda: found.endpoint in dict(world.events("probe.replica_silent"))
                )
                assert world.status(found.endpoint).is_read, "what is not known changes nothing"
            finally:
                group.replicas[0].resume()
            await world.until(found.endpoint, lambda row: not (row.state and row.state.problem))


async def test_a_wrong_redis_password_is_a_problem_that_names_its_field(tmp_path: Path) -> None:
    with replicated_redis(options=as_user("another one")) as group:
        async with watched(tmp_path, group, kind="redis") as world:
            await world.until("db", lambda row: row.state is not None and bool(row.state.problem))
            state = world.status("db").state
            assert state is not None
            assert state.problem.startswith("backends.db.replication.password: 127.0.0.1:")
            assert "the watcher" not in state.problem
            world.secret.write_text("another one")
            await world.node.reload()
            await world.until("db", knows(Role.PRIMARY))
