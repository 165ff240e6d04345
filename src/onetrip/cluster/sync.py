"""The shell around the cluster state: serves this node's report and pulls those of its peers.

Pull, not push: a node asks each peer about once a second, so a peer that is slow or gone costs one
time-out and nothing piles up. Requests and replies carry a MAC of the cluster secret.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import aiohttp
from aiohttp import web

from onetrip.cluster.messages import (
    MAX_REPORT_SIZE,
    PolicyRow,
    Report,
    decode_report,
    encode_report,
)
from onetrip.cluster.state import ClusterState
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import Kind, PeerError
from onetrip.model.topology import Endpoint, RegionId, Topology
from onetrip.net.accept import Acceptor, OnRefused, Terms
from onetrip.net.listening import bind, port_of
from onetrip.net.tls import PeerContexts, peer_regions
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock

REPORT = "report"
"""Name of what every node shares, at `/v1/<name>`."""

NONCE, MAC = "onetrip-nonce", "onetrip-mac"

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a peer's TLS handshake may take."""

MAX_HANDSHAKES = 256
"""Handshakes in progress; a cluster's nodes need one each."""

MAX_SKEW = 600.0
"""Seconds two nodes' wall clocks may differ before a request counts as replayed."""


class PeerSync:
    """Keeps `state` up to date with the peers.

    Args:
        report: makes this node's current report.
        on_policies: called with overrides that a peer knew and this node did not.
        source_address: local address of outgoing connections, or None.
        contexts: for TLS between nodes, or None to talk in clear.
        on_refused: told of (address, reason, detail) when somebody is not taken for a peer.

    Attributes:
        contexts: used from the next handshake on; None at the start stays None.
        secrets: more to share, by name: makes it for the region that asks. Shared over TLS only.
        shared: more to share with every node: returns what it calls by a name, None for nothing.
        on_report: told of every report that a peer gave.
    """

    def __init__(
        self,
        region: RegionId,
        secret: bytes,
        state: ClusterState,
        report: Callable[[], Report],
        on_policies: Callable[[list[PolicyRow]], None],
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tasks: Tasks,
        interval: float,
        source_address: str | None = None,
        contexts: PeerContexts | None = None,
        on_refused: OnRefused = lambda address, reason, detail: None,
    ) -> None:
        self._region = region
        self._secret = secret
        self._state = state
        self._report = report
        self._on_policies = on_policies
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tasks = tasks
        self._interval = interval
        self._source_address = source_address
        self.contexts = contexts
        self.secrets: dict[str, Callable[[str], bytes]] = {}
        self.shared: Callable[[str], Awaitable[bytes | None]] | None = None
        self.on_report: Callable[[Report], None] = lambda report: None
        self._on_refused = on_refused
        self._acceptor: Acceptor | None = None
        self._loops: dict[RegionId, tuple[Endpoint, asyncio.Task[object]]] = {}
        self._down: set[RegionId] = set()
        self._made, self._made_at = b"", -math.inf
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def serve(self, host: str, port: int) -> int:
        """Answer peers on host:port and return the bound port."""
        return await self.serve_on(await bind(host, port))

    async def serve_on(self, sockets: Sequence[socket.socket]) -> int:
        """Answer peers who connect to `sockets`, and return their port."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/v1/{name}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        if self.contexts is not None:
            return self._serve_tls(self._runner, sockets)
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()
        return port_of(sockets[0])

    def follow(self, topology: Topology) -> None:
        """Pull from every other region of `topology` that has a peer endpoint; stop the rest."""
        wanted = {
            region.id: region.peer
            for region in topology.regions.values()
            if region.peer is not None and region.id != self._region
        }
        for region, (endpoint, task) in list(self._loops.items()):
            if wanted.get(region) != endpoint:
                task.cancel()
                del self._loops[region]
        for region, endpoint in wanted.items():
            if region not in self._loops:
                self._loops[region] = (endpoint, self._pull_forever(region, endpoint))

    async def fetch_secret(self, region: RegionId, name: str) -> bytes:
        """Return what the node of `region` shares under `name`.

        Raises:
            PeerError: it did not answer, or there is no TLS between nodes.
        """
        if self.contexts is None or region not in self._loops:
            raise PeerError(f"peer {region} cannot be asked over TLS")
        return await self._fetch(region, self._loops[region][0], name)

    async def fetch(self, region: RegionId, name: str) -> bytes:
        """Return what the node of `region` shares with every node under `name`.

        Raises:
            PeerError: it did not answer, or shares nothing of that name.
        """
        if region not in self._loops:
            raise PeerError(f"peer {region} is not known")
        return await self._fetch(region, self._loops[region][0], name)

    async def stop(self) -> None:
        """Stop serving and close connections; the pull loops end with their task group."""
        await self.stop_serving()
        if self._session is not None:
            await self._session.close()

    async def stop_serving(self) -> None:
        """Answer no peer any more, and go on pulling."""
        if self._acceptor is not None:
            self._acceptor.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- pulling ----------------------------------------------------------------------------

    def _pull_forever(self, region: RegionId, endpoint: Endpoint) -> asyncio.Task[object]:
        async def once() -> None:
            await self._pull(region, endpoint)

        name = f"sync-{region}"
        return self._tasks.every(self._interval, once, name, self._clock, self._rng)

    async def _pull(self, region: RegionId, endpoint: Endpoint) -> None:
        try:
            report = decode_report(await self._fetch(region, endpoint, REPORT))
            if report.region != region:
                raise PeerError(f"{endpoint} claims to be {report.region!r}, expected {region!r}")
        except PeerError as error:
            self._metrics.sync_failures.labels(region).inc()
            if region not in self._down:
                self._down.add(region)
                self._log.warning("cluster.peer_lost", region=region, reason=str(error))
            return
        if region in self._down:
            self._down.discard(region)
            self._log.info("cluster.peer_found", region=region)
        news = self._state.merge(report, self._clock.now())
        if news:
            self._on_policies(news)
        self.on_report(report)

    async def _fetch(self, region: RegionId, endpoint: Endpoint, name: str) -> bytes:
        nonce = f"{self._region}.{int(self._clock.wall())}.{secrets.token_hex(16)}"
        headers = {NONCE: nonce, MAC: sign(self._secret, f"{name}-request", nonce.encode())}
        scheme = "https" if endpoint.tls_name else "http"
        timeout = aiohttp.ClientTimeout(total=max(3.0, 5 * self._interval))
        try:
            async with self._client().get(
                f"{scheme}://{endpoint}/v1/{name}",
                headers=headers,
                timeout=timeout,
                ssl=self.contexts.client if self.contexts is not None else True,
                server_hostname=endpoint.tls_name,
            ) as reply:
                if reply.status != 200:
                    raise PeerError(f"peer {region} answered {reply.status}")
                body = await _read(reply)
                mac = reply.headers.get(MAC, "")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            kind = Kind.TIMEOUT if isinstance(error, TimeoutError) else Kind.CONNECT
            raise PeerError(f"peer {region} at {endpoint}: {_reason(error)}", kind=kind) from error
        if not verify(self._secret, mac, f"{name}-reply", nonce.encode(), body):
            raise PeerError(f"peer {region} at {endpoint} does not share the cluster secret")
        return body

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            local = (self._source_address, 0) if self._source_address else None
            connector = aiohttp.TCPConnector(local_addr=local, limit=64, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, trust_env=False
            )
        return self._session

    # --- answering --------------------------------------------------------------------------

    def _body(self) -> bytes:
        # All peers ask within one interval; they may as well get the same report.
        now = self._clock.now()
        if now - self._made_at > self._interval / 2:
            self._made, self._made_at = encode_report(self._report()), now
        return self._made

    async def _answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        nonce = request.headers.get(NONCE, "")
        mac = request.headers.get(MAC, "")
        if not verify(self._secret, mac, f"{name}-request", nonce.encode()):
            return web.Response(status=401)
        try:
            sent_at = float(nonce.split(".")[1])
        except (IndexError, ValueError):
            return web.Response(status=400)
        if abs(self._clock.wall() - sent_at) > MAX_SKEW:
            return web.Response(status=401)
        region = nonce.partition(".")[0]
        if self.contexts is not None and not self._is_named(request, region):
            return web.Response(status=403)
        body = await self._content(name, region)
        if body is None:
            return web.Response(status=404)
        proof = sign(self._secret, f"{name}-reply", nonce.encode(), body)
        return web.Response(body=body, headers={MAC: proof}, content_type="application/vnd.msgpack")

    async def _content(self, name: str, region: str) -> bytes | None:
        if name == REPORT:
            return self._body()
        if name in self.secrets:
            return self.secrets[name](region) if self.contexts is not None else None
        return await self.shared(name) if self.shared is not None else None

    def _serve_tls(self, runner: web.AppRunner, sockets: Sequence[socket.socket]) -> int:
        def context() -> ssl.SSLContext:
            assert self.contexts is not None
            return self.contexts.server

        def refused(address: str, reason: str, detail: str) -> None:
            self._metrics.refused_connections.labels("report", reason).inc()
            self._on_refused(address, reason, detail)

        server = runner.server
        assert server is not None
        terms = Terms(HANDSHAKE_TIMEOUT, MAX_HANDSHAKES, context)
        self._acceptor = Acceptor(lambda told: server(), terms, refused, self._tasks.spawn)
        return self._acceptor.accept_from(sockets)

    def _is_named(self, request: web.Request, region: str) -> bool:
        """Tell whether the certificate of a request's connection is for the region it names."""
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        regions = peer_regions(tls) if tls is not None else frozenset()
        if region in regions:
            return True
        names = ", ".join(sorted(regions)) or "no region"
        detail = f"certificate for {names} asks for {region}"
        self._on_refused(request.remote or "unknown", "region", detail)
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return f"its certificate is refused: {getattr(cause, 'verify_message', cause)}"
    return type(error).__name__


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in reply.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MAX_REPORT_SIZE:
            raise PeerError(f"report of over {MAX_REPORT_SIZE} bytes exceeds limit")
    return bytes(body)
