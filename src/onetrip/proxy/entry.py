"""Which protocol a client over TLS speaks: known only once its handshake is through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


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
        is_http2 = tls is not None and tls.selected_alpn_protocol() == "h2"
        protocol = self._http2() if is_http2 else self._http1()
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
