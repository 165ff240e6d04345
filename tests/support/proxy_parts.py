"""Small stand-ins for the parts around one module of the proxy: no socket, no loop."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from onetrip.model.catalog import Policy, RouteRule
from onetrip.model.measure import MethodClass, RouteKey, Target
from onetrip.model.topology import Endpoint, RegionId
from onetrip.net.dial import P
from onetrip.observe.metrics import Metrics
from onetrip.proxy.balance import Balancer
from onetrip.proxy.channel import Channel, Outbox
from onetrip.proxy.ejection import Verdict
from onetrip.proxy.outliers import Outliers
from onetrip.proxy.pool import Pool
from onetrip.proxy.router import Match
from onetrip.proxy.settings import ProxySettings
from support.clock import VirtualClock
from support.proxy_rig import DEN, SHOP, make_catalog, make_topology

AT_ONCE = Outbox(lambda flush: flush())
"""An outbox that does not wait for the end of a round."""


class FakeTransport:
    """Records what is done to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_reading = True
        self.closed = ""
        self.unsent = 0

    def write(self, data: bytes) -> None:
        """Record `data`."""
        self.writes.append(data)

    @property
    def written(self) -> bytes:
        """Everything written so far."""
        return b"".join(self.writes)

    def pause_reading(self) -> None:
        """Note the pause."""
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        """Note the end of the pause."""
        assert not self.is_reading
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        """Return what the test set."""
        return self.unsent

    def set_write_buffer_limits(self, high: int) -> None:
        """Ignore the limits."""

    def get_extra_info(self, name: str) -> None:
        """Know nothing."""

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return bool(self.closed)

    def can_write_eof(self) -> bool:
        """Be a TCP transport."""
        return True

    def write_eof(self) -> None:
        """Note the half close."""
        self.writes.append(b"<eof>")

    def close(self) -> None:
        """Note the close."""
        self.closed = self.closed or "close"

    def abort(self) -> None:
        """Note the abort."""
        self.closed = "abort"


def make_channel(buffer_size: int = 100) -> tuple[Channel, FakeTransport]:
    """Return a connected channel and its transport."""
    channel, transport = Channel(buffer_size, None, AT_ONCE), FakeTransport()
    channel.connection_made(transport)  # type: ignore[arg-type]
    return channel, transport


class FakeDial:
    """A network on which every connect succeeds at once, or fails with `error`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.protocols: list[Any] = []

    async def __call__(
        self,
        factory: Callable[[], P],
        host: str,
        port: int,
        *,
        timeout: float,
        tls_name: str | None = None,
        protocols: tuple[str, ...] = (),
    ) -> P:
        """See `onetrip.net.dial.Dial`."""
        if self.error is not None:
            raise self.error
        protocol = factory()
        protocol.connection_made(FakeTransport())  # type: ignore[arg-type]
        self.protocols.append(protocol)
        return protocol


class BalanceRig:
    """A balancer over made-up regions.

    Attributes:
        down: targets that are not ready.
        verdicts: what was told about ejections.
    """

    def __init__(
        self,
        instances: dict[RegionId, list[Endpoint]],
        *,
        proxies: dict[RegionId, Endpoint | None] | None = None,
        policy: Policy | None = None,
        can_hop: bool = True,
        capacity: int | None = None,
        settings: ProxySettings | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.down: set[Target] = set()
        settings = settings or ProxySettings()
        self.pool = Pool(settings, FakeDial(), self.clock, AT_ONCE)
        self.metrics = Metrics()
        self.verdicts: list[Verdict] = []

        def is_ready(target: Target) -> bool:
            return target not in self.down

        self.outliers = Outliers(
            settings.ejection, is_ready, self.clock, self.metrics, self.verdicts.append
        )
        self.balancer = Balancer(DEN, self.pool, self.outliers, self.clock, Random(3), settings)
        self.catalog = make_catalog(instances, policy=policy, capacity=capacity)
        topology = make_topology(proxies or dict.fromkeys(instances))
        self.balancer.update(self.catalog, topology, can_hop)

    def match(self, rule: RouteRule | None = None) -> Match:
        """Return a match of the shop."""
        environment = self.catalog.projects["shop"].environments["production"]
        return Match(environment, rule, RouteKey(SHOP, "/a", MethodClass.READ))
