"""Which protocol a client over TLS speaks: known only once its handshake is through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from onetrip.proxy.challenges import CHALLENGE_PROTOCOL


class AlpnProtocol(asyncio.Protocol):
    """Stands in until then, and hands the connection to the right protocol (RFC 7301).

    Args:
        http1: makes the protocol of a client that speaks HTTP/1.1, or did not say.
        http2: makes the one of a client that chose `h2`, where a context offers it.
    """

    def __init__(
        self, http1: Callable[[], asyncio.Protocol], http2: Callable[[], asyncio.Protocol]
    ) -> None:
        self._http1 = http1
        self._http2 = http2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        tls = transport.get_extra_info("ssl_object")
        chosen = tls.selected_alpn_protocol() if tls is not None else None
        if chosen == CHALLENGE_PROTOCOL:
            # An authority validated a name: the handshake was all of it (RFC 8737 section 3).
            cast(asyncio.Transport, transport).close()
            return
        protocol = self._http2() if chosen == "h2" else self._http1()
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
