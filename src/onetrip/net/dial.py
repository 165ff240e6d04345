"""Open a TCP or TLS connection under a timeout: the one seam between onetrip and the network.

The proxy's pool and the prober both connect through `Dial`, so a test can hand either of them a
network that does not exist. Protocol code above never calls `create_connection` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from onetrip.errors import ExhaustedError, Kind, UpstreamError
from onetrip.net.tls import NODE_DOMAIN


class Receiver(Protocol):
    """Who a transport tells what happens: an `asyncio.Protocol`, by its shape alone.

    To inherit from asyncio's class would keep a receiver from being compiled.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""

    def eof_received(self) -> bool | None:
        """The peer sends no more; a false value closes the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """The transport has too much to send."""

    def resume_writing(self) -> None:
        """The transport takes more."""


P = TypeVar("P", bound=Receiver)


def as_protocol(factory: Callable[[], Receiver]) -> Callable[[], asyncio.BaseProtocol]:
    """Return the same factory as the loop's methods are typed."""
    return cast(Callable[[], asyncio.BaseProtocol], factory)


EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Error numbers that tell about this machine, not about the next hop: descriptors, buffers and
memory (socket(2)); EADDRNOTAVAIL, no local port (connect(2)), is another one."""


class Dial(Protocol):
    """Connects protocols to endpoints."""

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
        """Return a connected protocol made by `factory`.

        Args:
            factory: makes the protocol that will own the transport.
            host: IP address or name; a name is resolved by the system resolver.
            timeout: bound on name look-up, connect and TLS handshake together, s.
            tls_name: verify this server name over TLS; None connects in clear.
            protocols: ALPN names to offer over TLS, best first; peers choose by themselves.

        Raises:
            UpstreamError: kind CONNECT or TIMEOUT; always retryable, nothing was sent.
            ExhaustedError: this machine cannot open a connection at all.
        """


class TcpDialer:
    """The real network.

    Args:
        source_address: local address to connect from, as nginx's `proxy_bind`; None lets the
            system choose.
        make_tls: makes the client contexts used when a `tls_name` is given.

    Attributes:
        peer_tls: client context used for the names of nodes; a reload sets another one.
        forward_tls: the same where protocols are offered to a node.
    """

    def __init__(
        self,
        source_address: str | None = None,
        make_tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._local = (source_address, 0) if source_address else None
        self._make_tls = make_tls
        self._tls: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.peer_tls: ssl.SSLContext | None = None
        self.forward_tls: ssl.SSLContext | None = None

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
        """See `Dial`."""
        loop = asyncio.get_running_loop()
        context = self._context(tls_name, protocols)
        try:
            async with asyncio.timeout(timeout):
                transport, protocol = await loop.create_connection(
                    as_protocol(factory),
                    host,
                    port,
                    local_addr=self._local,
                    ssl=context,
                    server_hostname=tls_name,
                )
        except TimeoutError as error:
            raise UpstreamError(
                f"connect to {host}:{port} exceeds {timeout:g} s",
                kind=Kind.TIMEOUT,
                retryable=True,
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise connect_failure(f"{host}:{port}", error, self._local is not None) from error
        _set_options(transport)
        return cast(P, protocol)

    def _context(self, tls_name: str | None, protocols: tuple[str, ...]) -> ssl.SSLContext | None:
        if tls_name is None:
            return None
        if self.peer_tls is not None and tls_name.endswith(NODE_DOMAIN):
            return self.forward_tls or self.peer_tls if protocols else self.peer_tls
        context = self._tls.get(protocols)
        if context is None:
            context = self._tls[protocols] = self._make_tls()
            if protocols:
                context.set_alpn_protocols(list(protocols))
        return context


def connect_failure(where: str, error: OSError, has_source: bool) -> UpstreamError:
    """Return the error for a connection to `where` that the system could not open.

    Args:
        has_source: a local address was asked for; that it is not to be had may mean that it is
            not this machine's.
    """
    # asyncio replaces the system's text with one that repeats the address.
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        reason = os.strerror(error.errno)
    else:
        reason = error.strerror or type(error).__name__
    text = f"connect to {where} failed: {reason}"
    if isinstance(error, ssl.SSLError | socket.gaierror):
        pass  # numbers of their own
    elif error.errno in EXHAUSTED or (error.errno == errno.EADDRNOTAVAIL and not has_source):
        return ExhaustedError(text, retryable=True)
    return UpstreamError(text, kind=Kind.CONNECT, retryable=True)


def _set_options(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    for level, name, value in _OPTIONS:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, name, value)


def _options() -> list[tuple[int, int, int]]:
    # A request head and its body are two small writes; Nagle would hold the second one back for
    # a whole RTT (RFC 896 against delayed acknowledgements).
    found = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    # With the user timeout set, the kernel asks (keep-alive) until that has passed, see tcp(7).
    wanted = {
        "TCP_KEEPIDLE": PROBE_AFTER,
        "TCP_KEEPINTVL": PROBE_INTERVAL,
        "TCP_USER_TIMEOUT": 1000 * LOST_AFTER,
    }
    known = {name: getattr(socket, name) for name in wanted if hasattr(socket, name)}
    if len(known) == len(wanted):  # Linux; two hours of silence, the default, help nobody
        found.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        found += [(socket.IPPROTO_TCP, known[name], value) for name, value in wanted.items()]
    return found


LOST_AFTER = 10
"""Time after which a connection is lost whose other end acknowledges nothing, s. A network that is
cut in between says nothing; TCP by itself tries for 15 minutes (RFC 5482)."""

PROBE_AFTER, PROBE_INTERVAL = 5, 2
"""Time of silence after which the other end is asked whether it is there, and between two such
questions, s."""

_OPTIONS = _options()
