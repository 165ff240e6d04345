"""The PostgreSQL probe over TLS: a proxy that routes by name, and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import BackendKind, DatabaseTls
from onetrip.model.measure import Sample, Target, TargetKind
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.net.knock import TcpKnock
from onetrip.net.resolve import CachingResolver
from onetrip.probe.base import Network, ProbeSpec
from onetrip.probe.postgres import LEAST_REST
from onetrip.probe.runner import make_probe
from onetrip.timing import MonotonicClock
from support.certs import Authority, Pair
from support.fake_tls_postgres import SniProxy, sni_proxy
from support.servers import RunningServer, running_postgres

NAME = "ep-cool-darkness-a1b2-pooler.us-east-2.aws.neon.test"
TARGET = Target(TargetKind.BACKEND, "orders")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("certs"))
    made.issue("neon", "*.us-east-2.aws.neon.test")
    made.issue("other", "other.test")
    return made


async def take(
    host: str, port: int, tls: DatabaseTls, ca_file: Path | str = "", times: int = 1
) -> list[Sample]:
    async def lookup(name: str) -> list[str]:
        return ["127.0.0.1"]

    clock = MonotonicClock()
    resolve = CachingResolver(clock, lookup=lookup)
    network = Network(TcpDialer(), TcpKnock(clock), resolve, clock)
    endpoint = Endpoint(host, port)
    spec = ProbeSpec(TARGET, BackendKind.POSTGRES, endpoint, tls=tls, ca_file=str(ca_file))
    probe = make_probe(spec, network)
    try:
        return [await probe.run(10.0) for _ in range(times)]
    finally:
        probe.close()


def pair_of(authority: Authority, name: str) -> Pair:
    return Pair(authority.folder / f"{name}.pem", authority.folder / f"{name}.key")


async def test_the_proxy_is_told_the_name_and_sees_a_session_that_ends(
    authority: Authority,
) -> None:
    with sni_proxy(pair_of(authority, "neon")) as proxy:
        for mode in (DatabaseTls.PREFER, DatabaseTls.REQUIRE):
            (sample,) = await take(NAME, proxy.port, mode)
            assert 0 < sample.rtt < 5
        await take(NAME, proxy.port, DatabaseTls.VERIFY_FULL, authority.file)
        await ended(proxy, 3)
        # No startup message: it would wake a database that sleeps.
        assert (proxy.names, proxy.after) == ([NAME] * 3, b"")


async def ended(proxy: SniProxy, count: int) -> None:
    for _ in range(500):
        if proxy.ends >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{proxy.ends} sessions ended, not {count}")


async def test_without_a_name_such_a_proxy_refuses(authority: Authority) -> None:
    with sni_proxy(pair_of(authority, "neon")) as proxy:
        with pytest.raises(ProbeError, match="TLS handshake failed") as caught:
            await take("127.0.0.1", proxy.port, DatabaseTls.REQUIRE)
        assert caught.value.kind is Kind.DENIED
        assert "backend:orders" in str(caught.value)
        # Where TLS was only offered, the answer to SSLRequest has been a round trip.
        (sample,) = await take("127.0.0.1", proxy.port, DatabaseTls.PREFER)
        assert sample.rtt > 0
        assert proxy.names == [None, None]


async def test_each_exchange_is_a_trip_of_its_own(authority: Authority) -> None:
    delay = 0.2
    with sni_proxy(pair_of(authority, "neon"), delay=delay, tls_delay=delay) as proxy:
        (sample,) = await take(NAME, proxy.port, DatabaseTls.REQUIRE)
        assert delay <= sample.rtt < 1.8 * delay


async def test_a_longer_way_behind_the_proxy_is_part_of_the_rtt(authority: Authority) -> None:
    with sni_proxy(pair_of(authority, "neon"), tls_delay=0.15) as proxy:
        taken = await take(NAME, proxy.port, DatabaseTls.REQUIRE, times=2)
        assert LEAST_REST < 0.15
        assert all(sample.rtt >= 0.14 for sample in taken)


@pytest.mark.parametrize(
    ("pair", "mode", "reason"),
    [
        ("other", DatabaseTls.VERIFY_FULL, "certificate is refused: Hostname mismatch"),
        ("neon", DatabaseTls.VERIFY_FULL, None),
        ("other", DatabaseTls.VERIFY_CA, None),
        ("other", DatabaseTls.REQUIRE, None),
    ],
)
async def test_the_certificate_is_looked_at_as_far_as_wanted(
    authority: Authority, pair: str, mode: DatabaseTls, reason: str | None
) -> None:
    with sni_proxy(pair_of(authority, pair)) as proxy:
        if reason is None:
            await take(NAME, proxy.port, mode, authority.file)
            return
        with pytest.raises(ProbeError, match=reason) as caught:
            await take(NAME, proxy.port, mode, authority.file)
        assert caught.value.kind is Kind.DENIED


async def test_an_unknown_authority_and_a_server_without_tls_are_refused(
    authority: Authority,
) -> None:
    refused = pytest.raises(ProbeError, match="certificate is refused: unable to get")
    with sni_proxy(pair_of(authority, "neon")) as proxy, refused:
        await take(NAME, proxy.port, DatabaseTls.VERIFY_CA)
    with sni_proxy(pair_of(authority, "neon"), answer=b"N") as proxy:
        with pytest.raises(ProbeError, match="has no TLS, which sslmode=require wants"):
            await take(NAME, proxy.port, DatabaseTls.REQUIRE)
        await take(NAME, proxy.port, DatabaseTls.PREFER)


@pytest.fixture(scope="module")
def postgres(authority: Authority) -> Iterator[RunningServer]:
    pair = authority.issue("db", "db.test", "127.0.0.1")
    with running_postgres(tls=(pair.cert, pair.key)) as server:
        yield server


@pytest.mark.needs_server("postgres")
@pytest.mark.parametrize("mode", list(DatabaseTls), ids=lambda mode: mode.value)
async def test_a_real_server_with_tls_answers_and_logs_nothing(
    postgres: RunningServer, authority: Authority, mode: DatabaseTls
) -> None:
    before = postgres.log_text()
    taken = await take("db.test", postgres.port, mode, authority.file, times=3)
    assert all(0 < sample.rtt < 5 for sample in taken)
    await asyncio.sleep(0.1)  # its processes log when they end
    lines = postgres.log_text()[len(before) :].splitlines()
    assert not [line for line in lines if "ready to accept connections" not in line]
