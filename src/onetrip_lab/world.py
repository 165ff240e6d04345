"""The whole world: relay and users in this process; database, applications and nodes beside it.

Everything is started as its owner would start it: a node is `onetrip run`, configured by one file
that all nodes share. Every address in that file is the relay's, so every hop pays its distance.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from onetrip.timing import Clock, Deadline
from onetrip_lab.admin import Admin
from onetrip_lab.children import Children, LabError
from onetrip_lab.database import RunningDatabase, start_database
from onetrip_lab.delay import Links
from onetrip_lab.mix import Records
from onetrip_lab.relay import Relay
from onetrip_lab.shop import MAX_CONNECTIONS
from onetrip_lab.topology import AddressPlan, RttMatrix, free_plan
from onetrip_lab.users import HOST, Users

CONTROL_RATIO = 0.1
"""Share of requests in the control group. The default is 1 %; a demo of a minute has too few
requests for that to show an interval."""

START_TIMEOUT = 30.0
"""Bound on every node and application being healthy, s; takes about 3 s on two idle cores."""

PROJECT = "shop"


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """What to build.

    Attributes:
        database: one of `database.CHOICES`.
        is_default: the matrix is the packaged one.
    """

    matrix: RttMatrix
    users_per_region: int
    database: str = "auto"
    is_default: bool = True

    @property
    def edge(self) -> str:
        """Region whose users the demo follows: the first of the matrix."""
        return self.matrix.regions[0]

    @property
    def database_region(self) -> str:
        """Region of the only database: the second of the matrix."""
        return self.matrix.regions[1]


def configuration(
    matrix: RttMatrix, addresses: AddressPlan, database_region: str, data_dir: Path
) -> dict[str, Any]:
    """Return the configuration that every node of the world shares; placement starts off."""
    return {
        "data_dir": str(data_dir),
        "score_interval": 0.25,
        "log": {"level": "info", "access": "off"},
        "cluster": {"secret_file": "cluster.secret", "sync_interval": 0.5},
        "probe": {"interval": 0.5},
        "regions": {r: _region(matrix, addresses, r) for r in matrix.regions},
        "backends": {
            "orders-db": {
                "kind": "postgres",
                "address": str(addresses.far_of(addresses.database(database_region))),
            }
        },
        "projects": {
            PROJECT: {
                "placement": {"mode": "off", "control": CONTROL_RATIO, "dwell": 5},
                "environments": {
                    "production": {
                        "hosts": [HOST],
                        "bindings": {"db": "orders-db"},
                        "deployment": "v1",
                        "health_path": "/healthz",
                        "instances": {
                            r: [str(addresses.far_of(addresses.instance(r)))]
                            for r in matrix.regions
                        },
                    }
                },
            }
        },
    }


def _region(matrix: RttMatrix, addresses: AddressPlan, region: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "title": matrix.title(region),
        "proxy": str(addresses.far_of(addresses.node(region))),
        "peer": str(addresses.far_of(addresses.peer(region))),
        "node": {
            "listen": str(addresses.node(region)),
            "admin": str(addresses.admin(region)),
            "peer_listen": str(addresses.peer(region)),
            "source_address": addresses.source(region),
        },
    }
    if (position := matrix.position(region)) is not None:
        entry["position"] = list(position)
    return entry


class World:
    """A running world. `start` it once; `stop` always, also after a failed start."""

    def __init__(self, plan: WorldPlan, clock: Clock) -> None:
        self.plan = plan
        self.matrix = plan.matrix
        self.clock = clock
        self.records = Records()
        self.addresses = free_plan(plan.matrix.regions, plan.database_region)
        self.folder = Path(tempfile.mkdtemp(prefix="onetrip-demo-"))
        # Apart, because PostgreSQL may have to run as another user, who cannot look into ours.
        self.database_folder = Path(tempfile.mkdtemp(prefix="onetrip-demo-db-"))
        self.relay = Relay(Links(plan.matrix), self.addresses.region_of)
        self.children = Children(self.folder)
        self.users = Users(plan.users_per_region, self.records, clock)
        self.database: RunningDatabase | None = None

    @property
    def config_path(self) -> Path:
        """The nodes' configuration file."""
        return self.folder / "onetrip.yaml"

    def admin(self, region: str) -> Admin:
        """Return a client of a region's admin API."""
        return Admin(f"http://{self.addresses.admin(region)}")

    async def start(self) -> None:
        """Build everything except the users, and wait until it is healthy.

        Raises:
            LabError: a part did not start; quotes its last lines.
            ConfigError: an address was taken meanwhile.
        """
        await self._open_relay()
        region = self.plan.database_region
        near = self.addresses.database(region)
        self.database = await start_database(
            self.plan.database, near, self.database_folder, self.children, self.clock
        )
        self._write_configuration()
        for name in self.matrix.regions:
            await self._start_application(name)
        for name in self.matrix.regions:
            command = [sys.executable, "-m", "onetrip.cli.main", "run"]
            command += ["--config", str(self.config_path), "--region", name]
            await self.children.start(f"node {name}", command)
        await self._wait_until_healthy()

    async def stop(self, keep: bool = False) -> None:
        """End everything that was started; `keep` leaves the files of the nodes."""
        try:
            await self.users.leave()
            await self.children.stop()
            await self.relay.close()
        finally:
            shutil.rmtree(self.database_folder, ignore_errors=True)
            if not keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def let_users_in(self) -> None:
        """Start every region's users."""
        for region in self.matrix.regions:
            self.users.join(region, self.addresses.source(region), self.addresses.node(region))

    async def wait(self, duration: float) -> None:
        """Let the world run for `duration`, s.

        Raises:
            LabError: a child ended by itself.
        """
        await asyncio.wait({self.children.failure}, timeout=duration)
        self.children.check()

    async def _open_relay(self) -> None:
        database = self.plan.database_region
        for near in self.addresses.near_endpoints(database):
            region = self.addresses.region_of(near.host)
            assert region is not None
            await self.relay.listen(self.addresses.far_of(near), near, region)

    def _write_configuration(self) -> None:
        secret = self.folder / "cluster.secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(32))
        settings = configuration(
            self.matrix, self.addresses, self.plan.database_region, self.folder / "data"
        )
        self.config_path.write_text(yaml.safe_dump(settings, sort_keys=False))

    async def _start_application(self, region: str) -> None:
        database = self.addresses.far_of(self.addresses.database(self.plan.database_region))
        command = [sys.executable, "-m", "onetrip_lab.shop", "--region", region]
        command += ["--listen", str(self.addresses.instance(region)), "--database", str(database)]
        command += ["--source-address", self.addresses.instance_source(region)]
        # Placed in one region, an instance may serve the users of all.
        users = self.plan.users_per_region * len(self.matrix.regions)
        command += ["--connections", str(min(users, MAX_CONNECTIONS))]
        await self.children.start(f"shop {region}", command)

    async def _wait_until_healthy(self) -> None:
        deadline = Deadline.after(START_TIMEOUT, self.clock)
        checks = (
            ("the shop in {} does not answer", self._has_shop),
            ("the node in {} does not see all of its peers", self._sees_everyone),
        )
        for complaint, is_well in checks:
            for region in self.matrix.regions:
                await self._until(complaint.format(region), region, is_well, deadline)

    async def _until(
        self,
        complaint: str,
        region: str,
        is_well: Callable[[str], Awaitable[bool]],
        deadline: Deadline,
    ) -> None:
        while not await is_well(region):
            if not deadline.remaining(self.clock):
                raise LabError(f"{complaint} after {START_TIMEOUT:g} s; logs are in {self.folder}")
            await self.wait(0.1)

    async def _has_shop(self, region: str) -> bool:
        endpoint = self.addresses.instance(region)
        try:
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        except OSError:
            return False
        writer.close()
        return True

    async def _sees_everyone(self, region: str) -> bool:
        status = await self.admin(region).status()
        return status is not None and status.regions_alive == len(self.matrix.regions)
