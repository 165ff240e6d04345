"""Names to addresses, remembered for a while, so that a look-up is never part of an RTT."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from onetrip.errors import Kind, UpstreamError
from onetrip.timing import Clock

Lookup = Callable[[str], Awaitable[list[str]]]
"""Asks the name service: a name to its addresses, best first."""


class Resolve(Protocol):
    """Turns a host into one address."""

    async def __call__(self, host: str, *, timeout: float) -> str:
        """Return an address of `host`; an address is returned as it is.

        Raises:
            UpstreamError: kind CONNECT or TIMEOUT.
        """

    def distrust(self, host: str, address: str) -> None:
        """Note that `address` could not be reached: offer another one next time."""


@dataclass(slots=True)
class _Answer:
    addresses: list[str]
    expires_at: float


class CachingResolver:
    """The system's resolver behind a bounded cache.

    Args:
        ttl: how long an answer is believed, s. The resolver API does not tell the records' own.
        size: most names remembered; the oldest answer goes first.
        lookup: asks the name service; the system's resolver by default.
    """

    def __init__(
        self, clock: Clock, ttl: float = 60.0, size: int = 1024, lookup: Lookup | None = None
    ) -> None:
        self._clock = clock
        self._ttl = ttl
        self._size = size
        self._lookup = lookup or system_lookup
        self._answers: dict[str, _Answer] = {}

    async def __call__(self, host: str, *, timeout: float) -> str:
        """See `Resolve`."""
        if is_address(host):
            return host
        answer = self._answers.get(host)
        if answer is None or answer.expires_at <= self._clock.now():
            answer = await self._ask(host, timeout)
        return answer.addresses[0]

    def distrust(self, host: str, address: str) -> None:
        """See `Resolve`."""
        answer = self._answers.get(host)
        if answer is None or answer.addresses[0] != address:
            return
        answer.addresses.pop(0)
        if not answer.addresses:
            del self._answers[host]

    async def _ask(self, host: str, timeout: float) -> _Answer:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._lookup(host)
        except TimeoutError as error:
            raise UpstreamError(
                f"look-up of {host} exceeds {timeout:.3g} s", kind=Kind.TIMEOUT, retryable=True
            ) from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UpstreamError(
                f"look-up of {host} failed: {reason}", kind=Kind.CONNECT, retryable=True
            ) from error
        if not addresses:
            raise UpstreamError(f"{host} has no address", kind=Kind.CONNECT, retryable=True)
        self._answers.pop(host, None)
        while len(self._answers) >= self._size:
            self._answers.pop(next(iter(self._answers)))
        answer = _Answer(addresses, self._clock.now() + self._ttl)
        self._answers[host] = answer
        return answer


def is_address(host: str) -> bool:
    """Tell whether `host` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def system_lookup(host: str) -> list[str]:
    """Ask the system's resolver, in the order of RFC 6724."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))
