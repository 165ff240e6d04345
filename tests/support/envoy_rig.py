"""A real Envoy with a control plane of its own, and an instance in each of two regions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import MonotonicClock
from onetrip.xds import server
from onetrip.xds.bootstrap import Identity
from onetrip.xds.resources import state_of
from onetrip.xds.server import ControlPlane
from onetrip.xds.terms import Plan
from support.envoy import (
    HERE,
    THERE,
    ask,
    bootstrap_for,
    echo,
    get,
    plan_for,
    running_envoy,
    serving,
)
from support.fake_upstream import FakeUpstream
from support.ports import free_ports
from support.waits import eventually


@dataclass
class Rig:
    """An Envoy, its control plane, and an instance in each of two regions."""

    control: ControlPlane
    port: int
    admin: int
    here: FakeUpstream
    there: FakeUpstream
    metrics: Metrics
    control_port: int = 0
    entries: list[Any] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def instances(self) -> dict[Any, list[int]]:
        """The ports of each region's instances."""
        return {HERE: [self.here.port], THERE: [self.there.port]}

    def plan(self, *args: Any, **fields: Any) -> Plan:
        """Return a plan for this Envoy."""
        return plan_for(self.port, self.instances, *args, **fields)

    async def apply(self, plan: Plan) -> None:
        """Offer a plan and wait until it is in use."""
        self.control.offer(state_of(plan))
        await self.current()

    async def current(self) -> None:
        """Wait until the Envoy has accepted all that was offered."""
        await eventually(
            lambda: any(s.is_current for s in self.control.statuses()),
            lambda: self.control.statuses(),
            pause=0.001,
        )

    async def where(self, request: bytes = b"") -> str:
        """Return which instance answers."""
        return (await ask(self.port, request or get()))[2].partition(b"\n")[0].decode()


@asynccontextmanager
async def rig(
    folder: Path, identity: Identity | None = None, expected: str = ""
) -> AsyncIterator[Rig]:
    """Run everything.

    Args:
        identity: by which Envoy and control plane know each other; None speaks in clear.
        expected: name that the control plane wants in the Envoy's certificate; "" for the same.
            With another one the Envoy stays without configuration.
    """
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(FakeUpstream(echo("here")))
        there = await stack.enter_async_context(FakeUpstream(echo("there")))
        metrics = Metrics()
        entries: list[Any] = []
        told: list[tuple[str, str, str]] = []
        control = ControlPlane(
            MonotonicClock(),
            metrics,
            Log(None, "error", lambda: 0.0),
            on_entries=entries.extend,
            tell=lambda *event: told.append(event),
        )
        port, admin = free_ports(2)
        found = Rig(control, port, admin, here, there, metrics, 0, entries, told)
        control.offer(state_of(found.plan()))
        stack.push_async_callback(control.stop)
        found.control_port = await control.start("127.0.0.1", 0, _server_side(identity, expected))
        bootstrap = bootstrap_for(found.control_port, admin, identity)
        await stack.enter_async_context(running_envoy(bootstrap, folder))
        if not expected:
            await serving(port)
        yield found


def _server_side(identity: Identity | None, expected: str) -> server.Identity | None:
    if identity is None:
        return None
    ca, chain, key = (Path(n).read_bytes() for n in (identity.ca, identity.cert, identity.key))
    return server.Identity(ca, chain, key, expected or identity.name)
