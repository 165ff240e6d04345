"""The shell around the cluster state: serves this node's report and pulls those of its peers.

Pull, not push: a node asks each peer and says what it knows of it already, and the peer answers
when it has news, or after a while (`cluster/telling`). A peer that is slow or gone costs one
time-out and nothing piles up. What is known stands in the nonce of the request, which a node of an
older version takes as it is: it answers at once, with a whole report. Requests and replies carry a
MAC of the cluster secret.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from aiohttp import web

from onetrip.cluster.asking import MAC, NONCE, PeerClient, purpose_of
from onetrip.cluster.delta import ReportCopy, decode_delta
from onetrip.cluster.messages import PolicyRow, Report, decode_report
from onetrip.cluster.state import ClusterState, hold_time
from onetrip.cluster.telling import Known, Telling
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import PeerError
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

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a peer's TLS handshake may take."""

MAX_HANDSHAKES = 256
"""Handshakes in progress; a cluster's nodes need one each."""

GAP_RATIO = 0.05
"""Share of the interval between an answer and the next question to the same peer."""

SHUTDOWN_TIMEOUT = 2.0
"""Seconds that a request being answered may take after the last one was let in."""

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
        detour: asks peers without an address for a secret, where there is another way.
        on_report: told of every report that a peer gave.
        telling: makes and keeps this node's reports.
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
        self._on_policies = on_policies
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tasks = tasks
        self._interval = interval
        self._client = PeerClient(
            region,
            secret,
            clock=clock,
            metrics=metrics,
            interval=interval,
            source_address=source_address,
        )
        self.contexts = contexts
        self.secrets: dict[str, Callable[[str], bytes]] = {}
        self.shared: Callable[[str], Awaitable[bytes | None]] | None = None
        self.detour: Callable[[RegionId, str], Awaitable[bytes]] | None = None
        self.on_report: Callable[[Report], None] = lambda report: None
        self._on_refused = on_refused
        self._acceptor: Acceptor | None = None
        self._loops: dict[RegionId, tuple[Endpoint, asyncio.Task[object]]] = {}
        self._down: set[RegionId] = set()
        self._copies: dict[RegionId, ReportCopy] = {}
        self.telling = Telling(report, clock, interval)
        self._runner: web.AppRunner | None = None

    async def serve(self, host: str, port: int) -> int:
        """Answer peers on host:port and return the bound port."""
        return await self.serve_on(await bind(host, port))

    async def serve_on(self, sockets: Sequence[socket.socket]) -> int:
        """Answer peers who connect to `sockets`, and return their port."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/v1/{name}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT
        )
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
                self._copies.pop(region, None)
        for region, endpoint in wanted.items():
            if region not in self._loops:
                self._loops[region] = (endpoint, self._pull_forever(region, endpoint))

    @property
    def hold(self) -> float:
        """How long a peer may keep this node waiting for news, s."""
        return hold_time(self._interval, len(self._loops))

    def wake(self) -> None:
        """Tell the peers soon: something was declared at this node."""
        self.telling.wake()

    async def fetch_secret(self, region: RegionId, name: str) -> bytes:
        """Return what the node of `region` shares under `name`.

        Raises:
            PeerError: it did not answer, or there is no TLS between nodes.
        """
        if self.contexts is not None and region not in self._loops and self.detour is not None:
            return await self.detour(region, name)
        if self.contexts is None or region not in self._loops:
            raise PeerError(f"peer {region} cannot be asked over TLS")
        return await self._fetch(region, self._loops[region][0], name)

    def can_fetch(self, region: RegionId) -> bool:
        """Tell whether the node of `region` has an address for its peers."""
        return region in self._loops

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
        await self._client.close()

    async def stop_serving(self) -> None:
        """Answer no peer any more, and go on pulling."""
        self.telling.close()
        if self._acceptor is not None:
            self._acceptor.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- pulling ----------------------------------------------------------------------------

    def _pull_forever(self, region: RegionId, endpoint: Endpoint) -> asyncio.Task[object]:
        async def once() -> None:
            await self._pull(region, endpoint)

        name, pause = f"sync-{region}", GAP_RATIO * self._interval
        return self._tasks.every(pause, once, name, self._clock, self._rng)

    async def _pull(self, region: RegionId, endpoint: Endpoint) -> None:
        try:
            report = await self._fetch_report(region, endpoint)
        except PeerError as error:
            self._copies.pop(region, None)
            self._metrics.sync_failures.labels(region).inc()
            if region not in self._down:
                self._down.add(region)
                self._log.warning("cluster.peer_lost", region=region, reason=str(error))
            await self._clock.sleep(self._interval)
            return
        if region in self._down:
            self._down.discard(region)
            self._log.info("cluster.peer_found", region=region)
        news = self._state.merge(report, self._clock.now())
        if news:
            self._on_policies(news)
        self.on_report(report)

    async def _fetch_report(self, region: RegionId, endpoint: Endpoint) -> Report:
        copy, hold = self._copies.setdefault(region, ReportCopy()), self.hold
        known = Known(copy.boot, copy.seq, hold)
        body, is_delta = await self._client.ask(region, endpoint, REPORT, self.contexts, known)
        if not is_delta:  # an older version, which answers at once
            report = decode_report(body)
            _check_region(report.region, region, endpoint)
            await self._clock.sleep(self._interval)
            return report
        delta = decode_delta(body)
        _check_region(delta.region, region, endpoint)
        found = copy.apply(delta, self._clock.now())
        if found is None:
            raise PeerError(f"peer {region} at {endpoint} tells what was not asked for")
        return found

    async def _fetch(self, region: RegionId, endpoint: Endpoint, name: str) -> bytes:
        return (await self._client.ask(region, endpoint, name, self.contexts))[0]

    # --- answering --------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        nonce = request.headers.get(NONCE, "")
        mac = request.headers.get(MAC, "")
        if not verify(self._secret, mac, f"{name}-request", nonce.encode()):
            return web.Response(status=401)
        try:
            region, wall, _, *more = nonce.split(".")
            sent_at = float(wall)
            known = Known.parse(more) if name == REPORT and more else None
        except ValueError:
            return web.Response(status=400)
        if abs(self._clock.wall() - sent_at) > MAX_SKEW:
            return web.Response(status=401)
        if self.contexts is not None and not self._is_named(request, region):
            return web.Response(status=403)
        body = await self._content(name, region, known)
        if body is None:
            return web.Response(status=404)
        proof = sign(
            self._secret, purpose_of(name, is_delta=known is not None), nonce.encode(), body
        )
        return web.Response(body=body, headers={MAC: proof}, content_type="application/vnd.msgpack")

    async def _content(self, name: str, region: str, known: Known | None) -> bytes | None:
        if name == REPORT:
            return self.telling.whole() if known is None else await self.telling.since(known)
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


def _check_region(told: RegionId, region: RegionId, endpoint: Endpoint) -> None:
    if told != region:
        raise PeerError(f"{endpoint} claims to be {told!r}, expected {region!r}")
