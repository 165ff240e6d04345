"""Opening a connection to a server: TCP, TLS where it is wanted, the login, under one timeout."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.net.dial import Dial
from onetrip.net.names import is_loopback
from onetrip.relay.route_settings import Account, DatabaseEndpoint
from onetrip.relay.server_link import ServerLink
from onetrip.timing import Clock
from onetrip.wire.flip_setup import PostgresFlips
from onetrip.wire.flips import Tally
from onetrip.wire.postgres import SSL_REQUEST
from onetrip.wire.postgres_login import Login

TLS_TRIPS = 2
"""Round trips before the login where TLS is wanted: the question, and TLS 1.3 (RFC 8446)."""


async def open_link(
    endpoint: DatabaseEndpoint,
    account: Account,
    database: str,
    dial: Dial,
    clock: Clock,
    tally: Tally,
    nonce: bytes,
    on_lost: Callable[[ServerLink], None],
    *,
    timeout: float,
) -> ServerLink:
    """Return a connection on which `account` is logged in to `database`.

    Raises:
        UpstreamError: there is none.
    """
    # The set-up counts as such; the trips of queries are those of the clients.
    link = ServerLink(endpoint.name, clock, PostgresFlips(tally), on_lost)
    is_private = endpoint.tls is not None or is_loopback(endpoint.at.host)
    try:
        async with asyncio.timeout(timeout):
            await dial(lambda: link, endpoint.at.host, endpoint.at.port, timeout=timeout)
            if endpoint.tls is not None:
                await start_tls(link, endpoint)
                tally.setup_trips += TLS_TRIPS
            password, user = account.password, account.user
            await link.login(Login(user, database, password, nonce, is_private=is_private))
    except TimeoutError as error:
        link.abort()
        raise UpstreamError(
            f"{endpoint.name}: no login within {timeout:g} s", kind=Kind.TIMEOUT
        ) from error
    except BaseException:
        link.abort()
        raise
    _keep_alive(link)
    return link


async def start_tls(link: ServerLink, endpoint: DatabaseEndpoint) -> None:
    """Have a server talk TLS, and verify it.

    Raises:
        UpstreamError: it does not, or is not who it should be.
    """
    assert link.transport is not None
    assert endpoint.tls is not None
    # Past the counter: this is no message of the session that it follows.
    link.transport.write(SSL_REQUEST)
    answer = await link.first_byte()
    if answer != b"S":
        # More than one byte would be somebody's who wrote before TLS began (CVE-2021-23222).
        raise UpstreamError(f"{endpoint.name} does not offer TLS", kind=Kind.CONNECT)
    loop = asyncio.get_running_loop()
    try:
        transport = await loop.start_tls(
            link.transport, link, endpoint.tls, server_hostname=endpoint.tls_name
        )
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "verify_message", "") or type(error).__name__
        raise UpstreamError(f"{endpoint.name}: TLS failed: {reason}", kind=Kind.CONNECT) from error
    if transport is None:
        raise UpstreamError(f"{endpoint.name} closed during TLS", kind=Kind.CONNECT)
    link.connection_made(transport)


async def send_cancel(
    endpoint: DatabaseEndpoint, packet: bytes, dial: Dial, clock: Clock, *, timeout: float
) -> None:
    """Ask a server to cancel what runs on another connection; best effort, as the protocol is."""
    gone = asyncio.Event()
    link = ServerLink(endpoint.name, clock, None, lambda _: gone.set())
    with contextlib.suppress(OnetripError, TimeoutError):
        async with asyncio.timeout(timeout):
            await dial(lambda: link, endpoint.at.host, endpoint.at.port, timeout=timeout)
            if endpoint.tls is not None:
                await start_tls(link, endpoint)
            link.write(packet)
            # The server closes once it has passed the signal on.
            await gone.wait()
    link.abort()


def _keep_alive(link: ServerLink) -> None:
    sock = link.transport.get_extra_info("socket") if link.transport is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
