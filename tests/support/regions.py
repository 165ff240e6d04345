"""Three regions, each in a network namespace: a node, two instances, and the way to the others.

Everything is a process of its own and can be killed, stopped and cut off for real. Between regions
are delaying relays, so that they are as far from each other as `RTTS` says; this process is beside
every node. `isolate` makes the namespaces' own world, which ends with this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

ROOT = Path(__file__).parents[2]

REGIONS = ("den", "bom", "fra")

RTTS = {("den", "bom"): 0.120, ("den", "fra"): 0.060, ("bom", "fra"): 0.070}
"""RTTs between regions, s: half of those between Cheyenne, Mumbai and Frankfurt."""

HOME = "bom"
"""Region of the database."""

GATEWAY = "10.77.0.1"
"""Address of this process, beside every region."""

TOKEN = "a token for tests"

STATE_SIZE = 4 << 20
"""Bytes that a node may keep: each has a file system of its own."""

START_TIMEOUT = 120.0
"""Bound on everything being up, s."""

_ISOLATED = "ONETRIP_TEST_ISOLATED"
_NOBODY = "02:00:00:00:00:01"  # a hardware address that nothing has


class NotPossibleError(Exception):
    """This machine cannot do it; the message says what is missing."""


def isolate() -> None:
    """Go on in network and mount namespaces of our own; returns there, in a new process image.

    Raises:
        NotPossibleError: the system does not let us, or lacks a program.
    """
    if os.environ.get(_ISOLATED):
        for step in ("mount -t tmpfs tmpfs /run", "mkdir /run/netns", "ip link set lo up"):
            _do(step)
        return
    missing = [program for program in ("unshare", "nsenter", "ip") if not shutil.which(program)]
    if missing:
        raise NotPossibleError(f"{', '.join(missing)} not installed (util-linux, iproute2)")
    for options in ("-nm", "-Urnm"):  # as root, or as root of a user namespace
        command = ["unshare", options, "--fork", "--kill-child"]
        if not subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            os.environ[_ISOLATED] = "1"
            os.execvp("unshare", [*command, sys.executable, *sys.argv])
    raise NotPossibleError("the system permits no network namespaces (unshare -Urnm)")


def _do(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossibleError(f"{command}: {done.stderr.strip()}")


def nats_server() -> str | None:
    """Return the program of a NATS server, if there is one."""
    return shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def far(region: str) -> str:
    """Return the address by which other regions reach a region."""
    return f"10.77.0.{2 + REGIONS.index(region)}"


def near(region: str) -> str:
    """Return the address of a region's own servers."""
    return f"10.77.1.{2 + REGIONS.index(region)}"


class Regions:
    """The world, made in an event loop; `start` it once, `stop` it always.

    Args:
        folder: for configuration, state and logs.
        has_nats: the cluster is shared over a NATS server as well.
    """

    def __init__(self, folder: Path, *, has_nats: bool = False) -> None:
        self.folder = folder
        self._has_nats = has_nats
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._mounts: list[Path] = []
        self.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=90.0), connector=aiohttp.TCPConnector(limit=0)
        )

    @property
    def config_path(self) -> Path:
        """The configuration of all nodes."""
        return self.folder / "onetrip.yaml"

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything and wait until every node sees all others and every instance."""
        self._connect_namespaces()
        if self._has_nats:
            await self.start_nats()
        self._write_configuration()
        await asyncio.gather(*(self._start_site(region) for region in REGIONS))
        for region, number in itertools.product(REGIONS, (1, 2)):
            await self.start_instance(region, number)
        await asyncio.gather(*(self.start_node(region) for region in REGIONS))
        try:
            await self.until(self.is_well, START_TIMEOUT)
        except TimeoutError:
            told = [
                f"{r}: {await self.problems(r)} {self.log(f'node-{r}')[-2000:]}" for r in REGIONS
            ]
            raise AssertionError("\n".join(told)) from None

    async def stop(self) -> None:
        """Kill everything that runs."""
        await self.session.close()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for process in self._processes.values():
            await process.wait()
        for mount in self._mounts:
            _do(f"umount {mount}")

    async def start_node(self, region: str) -> None:
        """Start a region's node; whoever needs it waits for `is_well`."""
        command = ("-m", "support.faulty_node", str(self._faults(region)))
        await self._start(f"node-{region}", region, *command, str(self.config_path), region)

    async def start_instance(self, region: str, number: int) -> None:
        """Start one of the two instances of a region."""
        rtt = 0.001 if region == HOME else _rtt(region, HOME)
        command = ("-m", "support.instance", near(region), str(9000 + number), str(rtt))
        await self._start(f"instance-{region}-{number}", region, *command, waits=True)

    async def start_nats(self) -> None:
        """Start a NATS server that all nodes reach."""
        command = (nats_server() or "", "-js", "-a", GATEWAY, "-p", "4222", "-sd", str(self.folder))
        with (self.folder / "nats.log").open("ab") as log:
            self._processes["nats"] = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
            )

    async def kill(self, name: str) -> None:
        """End a process as kill -9 does: `node-den`, `instance-den-1`."""
        process = self._processes.pop(name)
        process.kill()
        await process.wait()

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a process a signal."""
        self._processes[name].send_signal(number)

    def log(self, name: str) -> str:
        """Return what a process wrote to standard error."""
        return (self.folder / f"{name}.log").read_text()

    # --- faults -----------------------------------------------------------------------------

    def lose(self, source: str, target: str) -> None:
        """Let no packet of one region reach another one."""
        for address in (far(target), near(target)):
            _do(f"ip -n {source} neigh replace {address} lladdr {_NOBODY} nud permanent dev eth0")

    def find(self, source: str, target: str) -> None:
        """Undo `lose`."""
        for address in (far(target), near(target)):
            _do(f"ip -n {source} neigh del {address} dev eth0")

    async def set_distance(self, way: str, region: str, rtt: float | None) -> None:
        """Change the RTT from the others to a region: of its `node`, `peer` or `instances`.

        Args:
            rtt: s; None for what it was.
        """
        stdin = self._processes[f"site-{region}"].stdin
        assert stdin is not None
        for source in REGIONS:
            if source != region:
                order = {"way": way, "from": source, "rtt": rtt or _rtt(source, region)}
                stdin.write(json.dumps(order).encode() + b"\n")
        await stdin.drain()

    def inject(self, region: str, **faults: Any) -> None:
        """Let a node's clock or reports be wrong (`support.faulty_node`); nothing ends it."""
        new = self.folder / "faults.new"
        new.write_text(json.dumps(faults))
        new.replace(self._faults(region))

    def state(self, region: str) -> Path:
        """Return where a node keeps its state: a file system of its own."""
        return self.folder / "data" / region

    # --- what is seen -----------------------------------------------------------------------

    async def call(
        self, region: str, method: str, path: str, body: Any = None, timeout: float = 10.0
    ) -> tuple[int, Any]:
        """Call a node's admin API; status 0 when it does not answer."""
        url = f"http://{near(region)}:9400{path}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with self.session.request(
                method, url, headers=headers, json=body, timeout=aiohttp.ClientTimeout(timeout)
            ) as reply:
                return reply.status, await reply.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, None

    async def problems(self, region: str) -> list[str]:
        """Return what a node says is wrong."""
        status, body = await self.call(region, "GET", "/v1/status", timeout=2.0)
        return list(body["problems"]) if status == 200 else [f"{region} does not answer"]

    async def is_well(self) -> bool:
        """Tell whether all nodes see each other and all instances, and nothing is wrong."""
        for region in REGIONS:
            if await self.problems(region):
                return False
            status, body = await self.call(region, "GET", "/v1/rtts")
            states = [row["state"] for row in body["rtts"]] if status == 200 else []
            # Each of them measures both others and the database.
            if len(states) < len(REGIONS) ** 2 or set(states) != {"fresh"}:
                return False
        return True

    async def until(self, claim: Callable[[], Awaitable[bool]], timeout: float) -> float:
        """Wait until something holds; return how long that took, s.

        Raises:
            TimeoutError: it does not hold in time.
        """
        began_at = time.monotonic()
        while not await claim():
            if time.monotonic() - began_at > timeout:
                raise TimeoutError
            await asyncio.sleep(0.1)
        return time.monotonic() - began_at

    # --- parts ------------------------------------------------------------------------------

    def _faults(self, region: str) -> Path:
        return self.folder / f"faults-{region}.json"

    def _connect_namespaces(self) -> None:
        for command in (
            "ip link add br0 type bridge",
            "ip link set br0 up",
            f"ip addr add {GATEWAY}/16 dev br0",
        ):
            _do(command)
        for region in REGIONS:
            for command in (
                f"ip netns add {region}",
                f"ip link add v-{region} type veth peer name eth0 netns {region}",
                f"ip link set v-{region} master br0 up",
                f"ip -n {region} addr add {far(region)}/16 dev eth0",
                f"ip -n {region} addr add {near(region)}/16 dev eth0",
                f"ip -n {region} link set eth0 up",
                f"ip -n {region} link set lo up",
            ):
                _do(command)

    def _write_configuration(self) -> None:
        (self.folder / "secret").write_text("a shared secret for tests")
        for region in REGIONS:
            self.inject(region)
            self.state(region).mkdir(parents=True)
            _do(f"mount -t tmpfs -o size={STATE_SIZE} tmpfs {self.state(region)}")
            self._mounts.append(self.state(region))
        nats = {"nats": {"servers": [f"nats://{GATEWAY}:4222"]}} if self._has_nats else {}
        config = {
            "data_dir": str(self.folder / "data"),
            "admin": {"token_env": "ONETRIP_TEST_TOKEN"},
            "cluster": {"secret_file": "secret", **nats},
            "probe": {"interval": 1.0},
            "log": {"access": "off"},
            "deployments": {"domain": "apps.test", "allow": ["10.77.0.0/16"], "check_timeout": 5},
            "regions": {region: _region(region) for region in REGIONS},
            "backends": {"db": {"kind": "http", "address": f"{far(HOME)}:5432"}},
            "projects": {"shop": _project()},
        }
        self.config_path.write_text(yaml.safe_dump(config))

    async def _start_site(self, region: str) -> None:
        def ways(*ports: int) -> list[tuple[str, str]]:
            return [(f"{far(region)}:{port}", f"{near(region)}:{port}") for port in ports]

        plan = {
            "region": region,
            "regions": REGIONS,
            "rtts": [(*pair, rtt) for pair, rtt in RTTS.items()],
            "sources": {address(r): r for r in REGIONS for address in (far, near)},
            "ways": {
                "node": ways(8080),
                "peer": ways(9401),
                "instances": ways(9001, 9002),
                "backend": ways(5432) if region == HOME else [],
            },
            "backend": f"{near(region)}:5432" if region == HOME else None,
        }
        command = ("-m", "support.site", json.dumps(plan))
        await self._start(f"site-{region}", region, *command, waits=True)

    async def _start(self, name: str, region: str, *command: str, waits: bool = False) -> None:
        # The log of an earlier process of this name is kept.
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *("nsenter", f"--net=/run/netns/{region}", sys.executable, *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if waits else asyncio.subprocess.DEVNULL,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{ROOT}/tests:{ROOT}/src",
                    "ONETRIP_TEST_TOKEN": TOKEN,
                },
            )
        self._processes[name] = process
        if waits:
            assert process.stdout is not None
            async with asyncio.timeout(START_TIMEOUT):
                assert await process.stdout.readline() == b"ready\n", self.log(name)


def _rtt(one: str, other: str) -> float:
    return RTTS.get((one, other)) or RTTS[other, one]


def _region(region: str) -> dict[str, Any]:
    return {
        "proxy": f"{far(region)}:8080",
        "peer": f"{far(region)}:9401",
        "node": {
            "listen": f"{near(region)}:8080",
            "admin": f"{near(region)}:9400",
            "peer_listen": f"{near(region)}:9401",
        },
    }


def _project() -> dict[str, Any]:
    environment = {
        "hosts": ["shop.test"],
        "bindings": {"db": "db"},
        "health_path": "/healthz",
        "instances": {r: [f"{far(r)}:{port}" for port in (9001, 9002)] for r in REGIONS},
        "routes": [
            {"path": "/orders", "round_trips": {"db": 5}},
            {"path": "/item", "round_trips": {"db": 1}},
        ],
    }
    return {
        "placement": {"mode": "smart", "control": 0.0, "dwell": 1},
        "environments": {"production": environment},
    }
