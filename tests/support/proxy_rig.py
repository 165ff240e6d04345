"""A real `ProxyServer` on a free loopback port, with a small catalog, and a raw client.

The client speaks bytes, because most of what a proxy must get right is about bytes that no
well-behaved HTTP library would send.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import Any

from onetrip.model.catalog import (
    Catalog,
    Environment,
    EnvironmentId,
    Hedge,
    Instance,
    Policy,
    Project,
    RouteRule,
)
from onetrip.model.consistency import Consistency
from onetrip.model.edge import Assets, CachePolicy
from onetrip.model.measure import Observation, Target
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.net.dial import Dial, TcpDialer
from onetrip.net.tls import CertificateSet, PeerContexts
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.consistency import Guide
from onetrip.proxy.ejection import Verdict
from onetrip.proxy.listener import ProxyServer
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import Clock, MonotonicClock
from support.waits import BOUND
from support.waits import eventually as eventually

SHOP = EnvironmentId("shop", "production")
DEN, FRA = RegionId("den"), RegionId("fra")
SECRET = b"a cluster secret for tests"


def make_catalog(
    instances: Mapping[RegionId, list[Endpoint]],
    *,
    hosts: tuple[str, ...] = ("shop.test",),
    policy: Policy | None = None,
    rules: tuple[RouteRule, ...] = (),
    capacity: int | None = None,
    request_timeout: float | None = None,
    hedge: Hedge | None = None,
    assets: Assets | None = None,
    cache: CachePolicy | None = None,
    consistency: Consistency | None = None,
    reads_nearest: frozenset[str] = frozenset(),
) -> Catalog:
    """Return a catalog with one project, `shop`, whose instances are given by region."""
    environment = Environment(
        SHOP,
        hosts,
        tuple(Instance(r, e) for r, endpoints in instances.items() for e in endpoints),
        {},
        rules,
        capacity=capacity,
        request_timeout=request_timeout,
        assets=assets,
        cache=cache,
        consistency=consistency,
        reads_nearest=reads_nearest,
    )
    project = Project("shop", policy or Policy(), {"production": environment}, hedge)
    return Catalog({"shop": project}, {}, 1)


def make_topology(proxies: Mapping[RegionId, Endpoint | None]) -> Topology:
    """Return a topology of regions with the proxy address of each."""
    return Topology({r: Region(r, r.upper(), proxy=e) for r, e in proxies.items()})


class AccessLines:
    """Stands in for `AccessLog`: keeps the records."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.dropped = 0

    def write(self, record: dict[str, Any]) -> None:
        """Keep one record."""
        self.records.append(record)


class ProxyRig:
    """A running proxy and what it told about its exchanges.

    Attributes:
        down: targets that are not ready.
        refusals: (address, reason, detail) of peers that it did not take for such.
        verdicts: what it told about instances ejected and back.
        observations, lines: what it reported.
    """

    def __init__(
        self,
        catalog: Catalog,
        topology: Topology,
        *,
        settings: ProxySettings | None = None,
        region: RegionId = DEN,
        secret: bytes | None = SECRET,
        dial: Dial | None = None,
        clock: Clock | None = None,
        certificates: CertificateSet | None = None,
        contexts: PeerContexts | None = None,
        guide: Guide | None = None,
    ) -> None:
        self._certificates = certificates
        self._contexts = contexts
        self.tls_port = self.forward_port = 0
        self.refusals: list[tuple[str, str, str]] = []
        self.verdicts: list[Verdict] = []
        tcp = TcpDialer()
        if contexts is not None:
            tcp.peer_tls, tcp.forward_tls = contexts.client, contexts.forward
        self.down: set[Target] = set()
        self.observations: list[Observation] = []
        self.access = AccessLines()
        self.metrics = Metrics()
        self.port = 0
        self.server = ProxyServer(
            settings or ProxySettings(),
            region,
            dial or tcp,
            clock or MonotonicClock(),
            Random(7),
            self.metrics,
            silent_log(),
            self.access,
            secret=secret,
            on_observation=self.observations.append,
            is_ready=lambda target: target not in self.down,
            on_peer_refused=lambda *refusal: self.refusals.append(refusal),
            on_verdict=self.verdicts.append,
        )
        self.server.guide = (lambda: guide) if guide is not None else None
        self.server.update(catalog, topology)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint("127.0.0.1", self.port)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Access records so far."""
        return self.access.records

    async def __aenter__(self) -> ProxyRig:
        self.port = await self.server.start("127.0.0.1", 0)
        if self._certificates is not None:
            self.tls_port = await self.server.start_tls("127.0.0.1", 0, self._certificates)
        if self._contexts is not None:
            self.forward_port = await self.server.start_forward("127.0.0.1", 0, self._contexts)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Open a raw connection to the proxy."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def tls_client(
        self, context: ssl.SSLContext, name: str | None = "shop.test"
    ) -> AsyncIterator[Client]:
        """Open a raw connection over TLS, with a server name or (None) without one."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.tls_port, ssl=context, server_hostname=name or ""
        )
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    def refused(self, listener: str, reason: str) -> float:
        """Return how many connections a listener refused for a reason."""
        labels = {"listener": listener, "reason": reason}
        name = "onetrip_proxy_refused_connections_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def ask(self, data: bytes) -> Response:
        """Send `data` on a connection of its own and return the first response."""
        async with self.client() as client:
            await client.send(data)
            return await client.response(data.split(b" ", 1)[0])


def one_region(endpoint: Endpoint, **options: Any) -> ProxyRig:
    """Return a rig whose only region runs one instance at `endpoint`."""
    rig_options = {k: options.pop(k) for k in ("settings", "certificates", "clock") if k in options}
    catalog = make_catalog({DEN: [endpoint]}, **options)
    return ProxyRig(catalog, make_topology({DEN: None}), **rig_options)


class Response:
    """A response as the client saw it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.status = int(head.split(b" ", 2)[1])

    def header(self, name: str) -> list[str]:
        """Return the values of a field, in order."""
        found = re.findall(rb"(?im)^" + re.escape(name.encode()) + rb": *([^\r\n]*)\r$", self.head)
        return [value.decode("latin-1") for value in found]


class Client:
    """A raw HTTP/1 client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """Read one head; fails if the stream ends first."""
        async with asyncio.timeout(BOUND):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self, method: bytes = b"GET") -> Response:
        """Read one response with its body; chunked bodies come decoded."""
        async with asyncio.timeout(BOUND):
            head = await self.reader.readuntil(b"\r\n\r\n")
            response = Response(head, b"")
            if method == b"HEAD" or response.status in (204, 304) or response.status < 200:
                return response
            if response.header("Transfer-Encoding"):
                response.body = await self._chunks()
            elif length := response.header("Content-Length"):
                response.body = await self.reader.readexactly(int(length[0]))
            else:
                response.body = await self.reader.read()
            return response

    async def rest(self) -> bytes:
        """Read until the proxy closes."""
        async with asyncio.timeout(BOUND):
            return await self.reader.read()

    async def is_closed(self) -> bool:
        """Tell whether the proxy closes the connection, without sending more."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self.reader.readline()).split(b";")[0], 16)
            if size == 0:
                while await self.reader.readline() != b"\r\n":
                    pass
                return body
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
