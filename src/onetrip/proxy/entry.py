"""Which protocol a peer over TLS speaks: known only once its handshake is through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from onetrip.model.topology import Endpoint
from onetrip.net.dial import Dial, Receiver
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.challenges import CHALLENGE_PROTOCOL
from onetrip.proxy.channel import Outbox
from onetrip.proxy.pool import EndpointPool
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import Clock


class AlpnProtocol(asyncio.Protocol):
    """Stands in until then, and hands the connection to the right protocol (RFC 7301).

    Args:
        http1: makes the protocol of a peer that speaks HTTP/1.1, or did not say.
        http2: makes the one of a peer that chose `h2`, where a context offers it.

    Attributes:
        chosen: the protocol made, once connected.
    """

    def __init__(self, http1: Callable[[], Receiver], http2: Callable[[], Receiver]) -> None:
        self._http1 = http1
        self._http2 = http2
        self.chosen: Receiver | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        tls = transport.get_extra_info("ssl_object")
        chosen = tls.selected_alpn_protocol() if tls is not None else None
        if chosen == CHALLENGE_PROTOCOL:
            # An authority validated a name: the handshake was all of it (RFC 8737 section 3).
            cast(asyncio.Transport, transport).close()
            return
        protocol = self.chosen = self._http2() if chosen == "h2" else self._http1()
        cast(asyncio.Transport, transport).set_protocol(cast(asyncio.BaseProtocol, protocol))
        protocol.connection_made(transport)


def http2_pools(
    settings: ProxySettings, dial: Dial, clock: Clock, outbox: Outbox, metrics: Metrics, log: Log
) -> Callable[[Endpoint], EndpointPool]:
    """Return what makes the pools of endpoints that may speak HTTP/2; costs nothing before."""

    def make(endpoint: Endpoint) -> EndpointPool:
        from onetrip.proxy.pool_http2 import Http2Pool  # needs an optional package
        from onetrip.proxy.upstream_stream import TrunkParts

        return Http2Pool(endpoint, dial, TrunkParts(settings, clock, outbox, metrics, log))

    return make
