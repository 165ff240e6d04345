"""Time a TCP handshake without the server's program ever seeing a connection.

A monitor that connects and closes is not harmless. MariaDB and MySQL count it in
`max_connect_errors` whether the greeting was read or not, and then block the host (measured on
MariaDB 10.11: five plain connects from an address blocked it with `max_connect_errors=5`).
PostgreSQL forks a process and may log it, and web servers log it.

So a knock leaves the last step of the handshake out. With quick acknowledgements off, Linux holds
the final ACK back for up to 200 ms so that it can ride on the first data; closing with a zero
linger time before that sends RST instead. The server's kernel has answered the SYN, which is the
one round trip wanted, and drops the half-open entry; `accept` never returns it. HAProxy does the
same for its TCP checks (`tcp-smart-connect`, TCP_QUICKACK in proto_tcp.c).

Where the option does not exist this is a plain connect that ends in a reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol

from onetrip.errors import Kind, UpstreamError
from onetrip.net.dial import connect_failure
from onetrip.timing import Clock

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Knock(Protocol):
    """Times TCP handshakes."""

    async def __call__(self, address: str, port: int, *, timeout: float) -> float:
        """Return the time from SYN to SYN-ACK, s.

        Args:
            address: IP address; names are resolved before.

        Raises:
            UpstreamError: kind CONNECT or TIMEOUT.
        """


class TcpKnock:
    """The real network.

    Args:
        source_address: local address to knock from; None lets the system choose.
    """

    def __init__(self, clock: Clock, source_address: str | None = None) -> None:
        self._clock = clock
        self._source_address = source_address

    async def __call__(self, address: str, port: int, *, timeout: float) -> float:
        """See `Knock`."""
        loop = asyncio.get_running_loop()
        try:
            sock = self._socket(address)
        except OSError as error:
            raise self._failure(address, port, error) from error
        try:
            async with asyncio.timeout(timeout):
                started_at = self._clock.now()
                await loop.sock_connect(sock, (address, port))
                return self._clock.now() - started_at
        except TimeoutError as error:
            raise UpstreamError(
                f"connect to {address}:{port} exceeds {timeout:.3g} s",
                kind=Kind.TIMEOUT,
                retryable=True,
            ) from error
        except OSError as error:
            raise self._failure(address, port, error) from error
        finally:
            sock.close()

    def _failure(self, address: str, port: int, error: OSError) -> UpstreamError:
        return connect_failure(f"{address}:{port}", error, self._source_address is not None)

    def _socket(self, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            if _QUICKACK is not None:
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 0)
            if self._source_address is not None:
                sock.bind((self._source_address, 0))
        except OSError:
            sock.close()
            raise
        return sock
