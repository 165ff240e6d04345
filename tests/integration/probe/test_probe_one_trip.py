"""Every probe measures one round trip: never the look-up, the connect or a second exchange.

Each part of the way takes 30 ms here, so anything counted twice gives at least 60 ms.
"""

from __future__ import annotations

import pytest

from onetrip.model.catalog import BackendKind
from onetrip.model.measure import Sample, SampleKind, Target, TargetKind
from onetrip.model.topology import Endpoint
from onetrip.probe.base import Network, Probe, ProbeSpec
from onetrip.probe.runner import make_probe
from onetrip.timing import MonotonicClock
from support.delayed_servers import (
    DelayedDial,
    DelayedKnock,
    DelayedResolve,
    DelayedServer,
    Talk,
    Visitor,
    serving,
)
from support.greetings import mysql_greeting

DELAY = 0.030
LEAST = 0.028  # uvloop's timers may fire up to 1 ms early
MOST = 0.055
TARGET = Target(TargetKind.BACKEND, "orders")


async def postgres(visitor: Visitor) -> None:
    assert await visitor.question(8) == bytes.fromhex("0000000804d2162f")
    await visitor.answer(b"N")
    await visitor.wait_closed()


async def mysql(visitor: Visitor) -> None:
    await visitor.answer(mysql_greeting())
    await visitor.wait_closed()


async def redis(visitor: Visitor) -> None:
    while True:
        await visitor.question(14)
        await visitor.answer(b"+PONG\r\n")


async def http(visitor: Visitor) -> None:
    while True:
        await visitor.head()
        await visitor.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def probe_of(kind: BackendKind, server: DelayedServer) -> tuple[Probe, DelayedDial]:
    dial = DelayedDial(DELAY)
    network = Network(dial, DelayedKnock(DELAY), DelayedResolve(DELAY), MonotonicClock())
    endpoint = Endpoint("db.example", server.endpoint.port)
    return make_probe(ProbeSpec(TARGET, kind, endpoint), network), dial


async def measure(kind: BackendKind, talk: Talk, times: int) -> tuple[list[Sample], int, int]:
    async with serving(talk, DELAY) as server:
        probe, dial = probe_of(kind, server)
        samples = [await probe.run(2.0) for _ in range(times)]
        probe.close()
        return samples, dial.dialled, server.accepted


@pytest.mark.parametrize(
    ("kind", "talk", "sample_kind"),
    [
        (BackendKind.POSTGRES, postgres, SampleKind.HANDSHAKE),
        (BackendKind.MYSQL, mysql, SampleKind.HANDSHAKE),
        (BackendKind.REDIS, redis, SampleKind.HANDSHAKE),
        (BackendKind.HTTP, http, SampleKind.HTTP),
    ],
)
async def test_cold_and_warm_samples_are_one_round_trip(
    kind: BackendKind, talk: Talk, sample_kind: SampleKind
) -> None:
    samples, _, _ = await measure(kind, talk, times=3)
    for sample in samples:
        assert LEAST <= sample.rtt <= MOST
        assert sample.target == TARGET
        assert sample.kind is sample_kind


@pytest.mark.parametrize(("kind", "talk"), [(BackendKind.REDIS, redis), (BackendKind.HTTP, http)])
async def test_connection_is_kept(kind: BackendKind, talk: Talk) -> None:
    _, dialled, accepted = await measure(kind, talk, times=4)
    assert (dialled, accepted) == (1, 1)


async def test_tcp_sample_is_the_handshake_alone() -> None:
    samples, dialled, accepted = await measure(BackendKind.TCP, redis, times=2)
    assert [sample.rtt for sample in samples] == [DELAY, DELAY]
    assert {sample.kind for sample in samples} == {SampleKind.CONNECT}
    assert (dialled, accepted) == (0, 0)


async def test_slow_body_is_no_part_of_the_round_trip() -> None:
    async def slow_body(visitor: Visitor) -> None:
        await visitor.head()
        await visitor.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await visitor.answer(b"ok")
        await visitor.wait_closed()

    samples, _, _ = await measure(BackendKind.HTTP, slow_body, times=1)
    assert LEAST <= samples[0].rtt <= MOST
