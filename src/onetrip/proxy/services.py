"""What every exchange of one node shares; built once by the listener."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from onetrip.model.placement import PlacementSnapshot
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.proxy.balance import Balancer
from onetrip.proxy.channel import Outbox
from onetrip.proxy.hop import HopSigner
from onetrip.proxy.ledger import Ledger
from onetrip.proxy.retry import RetryBudget
from onetrip.proxy.router import Routing
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import Clock


@dataclass(slots=True)
class Services:
    """Shared by all connections of one `ProxyServer`.

    Attributes:
        routing: swapped live; an exchange takes it once.
        snapshot: swapped live; an exchange takes it once per attempt.
        swept_at: monotonic time of the last sweep; exact enough for an idle deadline.
        is_draining: answer what is in progress, then close.
        https_port: requests in clear are sent to this port instead; None serves them.
    """

    settings: ProxySettings
    region: RegionId
    clock: Clock
    rng: Random
    log: Log
    ledger: Ledger
    hops: HopSigner
    balancer: Balancer
    outbox: Outbox
    budget: RetryBudget
    routing: Routing
    snapshot: PlacementSnapshot
    swept_at: float
    is_draining: bool = False
    https_port: int | None = None
