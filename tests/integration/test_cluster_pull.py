"""Reports between real listeners: news at once, little otherwise, and older versions understood."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random

import msgspec
from aiohttp import web

from onetrip.cluster.messages import PolicyRow, Report, encode_report
from onetrip.cluster.state import ClusterState
from onetrip.cluster.sync import PeerSync
from onetrip.cluster.tickets import sign, verify
from onetrip.model.catalog import Mode
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import MonotonicClock
from support.waits import BOUND

DEN, BOM = RegionId("den"), RegionId("bom")
SECRET = b"a shared secret for tests"
SLOW = 20.0
"""An interval longer than any test: what arrives sooner was told because it is news."""


class Side:
    """One node's part in the exchange, with a report that a test can change.

    Attributes:
        region: whose report `report` is.
    """

    def __init__(self, region: RegionId, interval: float) -> None:
        self.report = Report(region, 1.0, 0)
        self.metrics, self.state = Metrics(), ClusterState(region, frozenset({DEN, BOM}), 5.0)
        self.failures: list[str] = []
        self.tasks = Tasks(lambda name, error: self.failures.append(f"{name}: {error}"))
        self.sync = PeerSync(
            region,
            SECRET,
            self.state,
            self._make,
            lambda rows: None,
            clock=MonotonicClock(),
            rng=Random(1),
            metrics=self.metrics,
            log=silent_log(),
            tasks=self.tasks,
            interval=interval,
        )

    def _make(self) -> Report:
        self.report = msgspec.structs.replace(self.report, seq=self.report.seq + 1)
        return self.report

    def told(self) -> dict[Target, RttEstimate]:
        return self.state.rows(MonotonicClock().now()).get(BOM, {})


def estimate(rtt: float, name: str = "db") -> RttEstimate:
    target = Target(TargetKind.BACKEND, name)
    return RttEstimate(target, rtt, rtt, 0.001, 9, 0, 1.0, EstimateState.FRESH)


def follow(side: Side, port: int) -> None:
    peer = Region(BOM, "bom", peer=Endpoint("127.0.0.1", port))
    side.sync.follow(Topology({DEN: Region(DEN, "den"), BOM: peer}))


@contextlib.asynccontextmanager
async def pair(interval: float) -> AsyncIterator[tuple[Side, Side]]:
    """`den`, which pulls from `bom`."""
    den, bom = Side(DEN, interval), Side(BOM, interval)
    bom.report = msgspec.structs.replace(bom.report, rtts=[estimate(0.1)])
    try:
        follow(den, await bom.sync.serve("127.0.0.1", 0))
        yield den, bom
    finally:
        for side in (den, bom):
            await side.tasks.cancel(5)
            await side.sync.stop()
    assert den.failures == bom.failures == []


async def until(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(min(BOUND, SLOW / 2)):
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_declared_arrives_long_before_the_interval_is_over() -> None:
    async with pair(SLOW) as (den, bom):
        await until(den.told)
        row = PolicyRow("shop", 1, BOM, "base", Mode.SMART)
        bom.report = msgspec.structs.replace(bom.report, policies=[row])
        bom.sync.wake()
        await until(lambda: den.state.policies() == {"shop": row})


async def test_a_quiet_peer_costs_little_and_a_change_arrives() -> None:
    async with pair(0.05) as (den, bom):
        rows = [estimate(0.1), *(estimate(0.1, f"db{n}") for n in range(100))]
        bom.report = msgspec.structs.replace(bom.report, rtts=rows)
        await until(lambda: len(den.told()) == 101)
        received = den.metrics.volume.received._value
        before, seq = received.get(), bom.report.seq
        await until(lambda: bom.report.seq > seq + 10)
        pulls = bom.report.seq - seq
        assert received.get() - before < 1000 * pulls  # a whole report has 20,000 bytes
        bom.report = msgspec.structs.replace(bom.report, rtts=[estimate(0.2), *rows[1:51]])
        await until(lambda: len(den.told()) == 51)
        assert den.told()[Target(TargetKind.BACKEND, "db")].rtt == 0.2


async def test_a_restarted_peer_is_believed_anew() -> None:
    async with pair(0.05) as (den, bom):
        await until(den.told)
        again = Report(BOM, 2.0, 0, rtts=[estimate(0.1, "other")])
        bom.report = again
        await until(lambda: {t.name for t in den.told()} == {"other"})


async def test_a_peer_of_an_older_version_is_understood() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        nonce = request.headers["onetrip-nonce"]
        asked.append(nonce)
        assert verify(SECRET, request.headers["onetrip-mac"], "report-request", nonce.encode())
        body = encode_report(Report(BOM, 1.0, len(asked), rtts=[estimate(0.3)]))
        proof = sign(SECRET, "report-reply", nonce.encode(), body)
        return web.Response(body=body, headers={"onetrip-mac": proof})

    app = web.Application()
    app.router.add_get("/v1/report", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    den = Side(DEN, 0.05)
    try:
        follow(den, int(runner.addresses[0][1]))
        await until(lambda: len(asked) > 2)
        assert [row.rtt for row in den.told().values()] == [0.3]
    finally:
        await den.tasks.cancel(5)
        await den.sync.stop()
        await runner.cleanup()


async def test_a_node_of_an_older_version_gets_a_whole_report() -> None:
    async with pair(0.05) as (den, bom):
        port = int(den.sync._loops[BOM][0].port)
        nonce = f"den.{int(MonotonicClock().wall())}.{'0' * 32}"
        headers = {
            "onetrip-nonce": nonce,
            "onetrip-mac": sign(SECRET, "report-request", nonce.encode()),
        }
        client = den.sync._client._client()
        async with client.get(f"http://127.0.0.1:{port}/v1/report", headers=headers) as reply:
            body = await reply.read()
        assert verify(SECRET, reply.headers["onetrip-mac"], "report-reply", nonce.encode(), body)
        found = msgspec.msgpack.decode(body, type=Report)
        assert [row.rtt for row in found.rtts] == [0.1]
        assert bom.failures == []
        for bad in (f"{nonce}.x", f"{nonce}.{'0' * 16}.1.99999999999999999999999999999999999"):
            mac = sign(SECRET, "report-request", bad.encode())
            headers = {"onetrip-nonce": bad, "onetrip-mac": mac}
            async with client.get(f"http://127.0.0.1:{port}/v1/report", headers=headers) as reply:
                assert reply.status == 400
