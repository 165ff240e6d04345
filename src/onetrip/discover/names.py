"""Asks DNS where instances are: every address of a name, or what its SRV records say.

With the package dnspython the records\' own time to live counts, SRV records work and servers can
be named; without it the system\'s resolver is asked, which tells addresses and nothing else. The
only module that imports it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from onetrip.discover.book import DiscoveryError
from onetrip.errors import Kind
from onetrip.model.discovery import Source, SourceKind
from onetrip.model.topology import Endpoint
from onetrip.net.resolve import Lookup, system_lookup

MAX_TARGETS = 64
"""Names of SRV records whose addresses are asked for; further ones are left out."""

TIMEOUT = 5.0
"""Longest time of one question, s."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source says now.

    Attributes:
        endpoints: none where the name has no records, or does not exist.
        ttl: how long it says so, s; None where it does not tell.
    """

    endpoints: tuple[Endpoint, ...]
    ttl: float | None = None


class NameService(Protocol):
    """Answers where the instances of a source are."""

    async def ask(self, source: Source) -> Answer:
        """Return an answer.

        Raises:
            DiscoveryError: there is none.
        """


def has_library() -> bool:
    """Tell whether dnspython is installed."""
    return find_spec("dns") is not None


class SystemNames:
    """The system\'s resolver; it knows /etc/hosts, and no SRV records.

    Args:
        lookup: asks it.
    """

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup

    async def ask(self, source: Source) -> Answer:
        """See `NameService`."""
        assert isinstance(source.port, int)
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self._lookup(source.name)
        except TimeoutError as error:
            raise _timed_out(source, TIMEOUT) from error
        except socket.gaierror as error:
            if error.errno == socket.EAI_NONAME:
                return Answer(())
            raise DiscoveryError(f"look-up of {source.name}: {error.strerror}") from error
        except OSError as error:
            raise DiscoveryError(f"look-up of {source.name}: {error.strerror}") from error
        return Answer(tuple(source.endpoint(address, source.port) for address in found))


class DnsNames:
    """DNS servers, asked directly.

    Args:
        servers: (address, port); none asks those of the system.
        timeout: longest time of one question, s; one about SRV records asks others besides.

    Raises:
        DiscoveryError: the system names none.
    """

    def __init__(self, servers: Sequence[tuple[str, int]] = (), timeout: float = TIMEOUT) -> None:
        import dns.asyncresolver
        import dns.exception
        import dns.nameserver
        import dns.resolver

        self._exceptions = (dns.exception.DNSException, OSError)
        self._nothing = (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.exception.DNSException as error:
            raise DiscoveryError(f"the system names no DNS server: {error}") from error
        if servers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, port) for address, port in servers
            ]
        self._resolver.lifetime = self._timeout = timeout

    async def ask(self, source: Source) -> Answer:
        """See `NameService`."""
        try:
            async with asyncio.timeout(2 * self._timeout):
                if source.kind is SourceKind.SRV:
                    return await self._services(source)
                assert isinstance(source.port, int)
                addresses, ttl = await self._addresses(source.name)
        except TimeoutError as error:
            raise _timed_out(source, 2 * self._timeout) from error
        except self._exceptions as error:
            reason = str(error).partition(":")[0] or type(error).__name__
            raise DiscoveryError(f"look-up of {source.name}: {reason[:200]}") from error
        return Answer(tuple(source.endpoint(a, source.port) for a in addresses), ttl)

    async def _addresses(self, name: str) -> tuple[list[str], float | None]:
        """Return the IPv4 and IPv6 addresses of a name; both questions must be answered."""
        found = await asyncio.gather(self._records(name, "A"), self._records(name, "AAAA"))
        addresses = [record.address for records, _ in found for record in records]
        return addresses, _least([ttl for _, ttl in found])

    async def _services(self, source: Source) -> Answer:
        records, ttl = await self._records(source.name, "SRV")
        # A target of "." says that the service is decidedly not there (RFC 2782).
        named = [r for r in records if r.target.to_text() != "."]
        first = min((r.priority for r in named), default=0)
        wanted = [r for r in named if r.priority == first][:MAX_TARGETS]
        names = list(dict.fromkeys(r.target.to_text(omit_final_dot=True) for r in wanted))
        answers = await asyncio.gather(*(self._addresses(name) for name in names))
        by_name = {name: answer[0] for name, answer in zip(names, answers, strict=True)}
        endpoints = [
            source.endpoint(address, record.port)
            for record in wanted
            for address in by_name[record.target.to_text(omit_final_dot=True)]
        ]
        return Answer(tuple(endpoints), _least([ttl, *(each for _, each in answers)]))

    async def _records(self, name: str, kind: str) -> tuple[list[Any], float | None]:
        try:
            answer = await self._resolver.resolve(name, kind, search=True)
        except self._nothing:
            return [], None
        return list(answer), float(answer.chaining_result.minimum_ttl)


def parse_server(text: str) -> tuple[str, int]:
    """Parse the address of a DNS server: `10.0.0.53`, `10.0.0.53:5353`, `[::1]:53`.

    Raises:
        ValueError: it is none.
    """
    host, port = text, "53"
    if text.startswith("["):
        host, end, port = text[1:].partition("]")
        port = port.removeprefix(":") or "53" if end else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} has no port in 1-65535")
    return str(ipaddress.ip_address(host)), int(port)


def _least(ttls: Sequence[float | None]) -> float | None:
    return min((ttl for ttl in ttls if ttl is not None), default=None)


def _timed_out(source: Source, limit: float) -> DiscoveryError:
    return DiscoveryError(f"look-up of {source.name} exceeds {limit:g} s", kind=Kind.TIMEOUT)
