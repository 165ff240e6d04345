"""What counts as a round trip, what as a failure, and what is left of a connection after it."""

from __future__ import annotations

import pytest

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import BackendKind
from onetrip.model.measure import SampleKind, Target, TargetKind
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.net.resolve import CachingResolver
from onetrip.probe.base import Network, Probe, ProbeSpec
from onetrip.probe.handshake import FIRST_GREETINGS, MAX_GREETINGS
from onetrip.probe.runner import make_probe
from onetrip.timing import MonotonicClock
from support.delayed_servers import DelayedKnock, Talk, Visitor, serving
from support.greetings import MYSQL_BLOCKED, POSTGRES_ERROR, mysql_error, mysql_greeting

TARGET = Target(TargetKind.BACKEND, "orders")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def network(knock: DelayedKnock | None = None) -> Network:
    clock = MonotonicClock()
    return Network(TcpDialer(), knock or DelayedKnock(0.001), CachingResolver(clock), clock)


def probe_of(
    kind: BackendKind,
    endpoint: Endpoint,
    *,
    is_health_check: bool = False,
    needs_success: bool = False,
    **spec: str,
) -> Probe:
    return make_probe(
        ProbeSpec(
            TARGET,
            kind,
            endpoint,
            is_health_check=is_health_check,
            needs_success=needs_success,
            **spec,
        ),
        network(),
    )


def says(*answers: bytes, question: int = 0) -> Talk:
    """Return a script that waits for a question and sends the answers, one for each."""

    async def talk(visitor: Visitor) -> None:
        for answer in answers:
            if question > 0:
                await visitor.question(question)
            elif question < 0:
                await visitor.head()
            await visitor.send(answer)

    return talk


def http(*answers: bytes) -> Talk:
    return says(*answers, question=-1)


ANSWERS: list[tuple[BackendKind, Talk]] = [
    (BackendKind.POSTGRES, says(b"S", question=8)),
    (BackendKind.POSTGRES, says(POSTGRES_ERROR, question=8)),
    (BackendKind.MYSQL, says(mysql_error(1040, "Too many connections"))),
    (BackendKind.MYSQL, says(mysql_error(1130, "Host is not allowed to connect"))),
    (BackendKind.REDIS, says(b"-NOAUTH Authentication required.\r\n", question=14)),
    (BackendKind.REDIS, says(b"-DENIED Redis is running in protected mode\r\n", question=14)),
    (BackendKind.HTTP, http(OK)),
    (BackendKind.HTTP, http(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")),
    (BackendKind.HTTP, http(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")),
    (BackendKind.HTTP, http(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")),
    (BackendKind.HTTP, http(b"HTTP/1.1 204 No Content\r\n\r\n")),
    (BackendKind.HTTP, http(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)),
    (BackendKind.HTTP, http(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut")),
    (BackendKind.HTTP, http(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900000)),
    (BackendKind.HTTP, http(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")),
]


@pytest.mark.parametrize(("kind", "talk"), ANSWERS)
async def test_any_answer_of_the_protocol_is_a_round_trip(kind: BackendKind, talk: Talk) -> None:
    async with serving(talk) as server:
        probe = probe_of(kind, server.endpoint)
        sample = await probe.run(2.0)
        probe.close()
        assert 0 < sample.rtt < 1.0


FAILURES: list[tuple[BackendKind, Talk, Kind]] = [
    (BackendKind.POSTGRES, says(b"H", question=8), Kind.MALFORMED),
    (BackendKind.POSTGRES, says(b"", question=8), Kind.RESET),
    (BackendKind.MYSQL, says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Kind.MALFORMED),
    (BackendKind.MYSQL, says(b""), Kind.RESET),
    (BackendKind.MYSQL, says(mysql_greeting()[:20]), Kind.RESET),
    (BackendKind.REDIS, says(b"HTTP/1.1 400 Bad Request\r\n\r\n", question=14), Kind.MALFORMED),
    (BackendKind.REDIS, says(b"", question=14), Kind.RESET),
    (BackendKind.HTTP, http(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"), Kind.MALFORMED),
    (BackendKind.HTTP, http(b""), Kind.RESET),
    (BackendKind.HTTP, http(b"HTTP/1.1 200 OK\r\n"), Kind.RESET),
    (BackendKind.HTTP, http(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000), Kind.HEAD_TOO_LARGE),
    (BackendKind.HTTP, http(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Kind.MALFORMED),
    (BackendKind.HTTP, http(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000), Kind.MALFORMED),
]


@pytest.mark.parametrize(("kind", "talk", "failure"), FAILURES)
async def test_anything_else_is_a_failure_that_names_the_target(
    kind: BackendKind, talk: Talk, failure: Kind
) -> None:
    async with serving(talk) as server:
        probe = probe_of(kind, server.endpoint)
        with pytest.raises(ProbeError, match=r"probe of backend:orders") as caught:
            await probe.run(2.0)
        assert caught.value.kind is failure


@pytest.mark.parametrize("kind", [k for k in BackendKind if k is not BackendKind.TCP])
async def test_silent_server_is_a_timeout(kind: BackendKind) -> None:
    async def silent(visitor: Visitor) -> None:
        await visitor.wait_closed()

    async with serving(silent) as server:
        with pytest.raises(ProbeError) as caught:
            await probe_of(kind, server.endpoint).run(0.05)
        assert caught.value.kind is Kind.TIMEOUT


@pytest.mark.parametrize("kind", [k for k in BackendKind if k is not BackendKind.TCP])
async def test_closed_port_is_a_connect_failure(kind: BackendKind) -> None:
    async with serving(says()) as server:
        endpoint = server.endpoint
    with pytest.raises(ProbeError, match="failed") as caught:
        await probe_of(kind, endpoint).run(1.0)
    assert caught.value.kind is Kind.CONNECT


@pytest.mark.parametrize("status", [500, 503, 599])
async def test_health_check_fails_on_a_server_error(status: int) -> None:
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
    async with serving(http(answer, OK)) as server:
        probe = probe_of(BackendKind.HTTP, server.endpoint, is_health_check=True)
        with pytest.raises(ProbeError, match=f"answered {status}") as caught:
            await probe.run(1.0)
        assert caught.value.kind is Kind.UNHEALTHY
        await probe.run(1.0)
        probe.close()
        assert server.accepted == 1


async def test_health_check_passes_on_a_client_error() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    async with serving(http(answer)) as server:
        probe = probe_of(BackendKind.HTTP, server.endpoint, is_health_check=True)
        assert (await probe.run(1.0)).kind is SampleKind.HTTP
        probe.close()


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (204, True), (302, False)])
async def test_declared_health_path_needs_a_success(status: int, is_healthy: bool) -> None:
    answer = b"HTTP/1.1 %d Maybe\r\nContent-Length: 0\r\n\r\n" % status
    async with serving(http(answer)) as server:
        probe = probe_of(
            BackendKind.HTTP, server.endpoint, is_health_check=True, needs_success=True
        )
        if is_healthy:
            assert (await probe.run(1.0)).kind is SampleKind.HTTP
        else:
            with pytest.raises(ProbeError, match=f"answered {status}") as caught:
                await probe.run(1.0)
            assert caught.value.kind is Kind.UNHEALTHY
        probe.close()


async def test_request_names_path_and_host_and_cannot_be_injected() -> None:
    heads: list[bytes] = []

    async def talk(visitor: Visitor) -> None:
        heads.append(await visitor.head())
        await visitor.send(OK)

    async with serving(talk) as server:
        for path, host in (("/health?x=1", "shop.example"), ("/a b\r\nX: y", "h\r\nX: y")):
            probe = probe_of(BackendKind.HTTP, server.endpoint, path=path, host_header=host)
            await probe.run(1.0)
            probe.close()
    assert heads[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: shop.example\r\n")
    assert heads[1].startswith(b"GET /a%20b%0D%0AX:%20y HTTP/1.1\r\nHost: hX:y\r\n")
    assert heads[1].count(b"\r\n") == heads[0].count(b"\r\n")


async def test_connection_closed_while_idle_is_no_failure() -> None:
    async with serving(http(OK)) as server:  # closes after one answer, without saying so
        probe = probe_of(BackendKind.HTTP, server.endpoint)
        for _ in range(3):
            await probe.run(1.0)
        probe.close()
        assert server.accepted == 3


async def test_body_without_end_costs_the_connection_only() -> None:
    async def endless(visitor: Visitor) -> None:
        await visitor.head()
        await visitor.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await visitor.wait_closed()

    async with serving(endless) as server:
        probe = probe_of(BackendKind.HTTP, server.endpoint)
        for _ in range(2):
            sample = await probe.run(0.1)
            assert sample.rtt < 0.1
        probe.close()
        assert server.accepted == 2


async def test_redis_bytes_nobody_asked_for_are_not_taken_for_an_answer() -> None:
    async with serving(says(b"+PONG\r\n+PONG\r\n", b"+PONG\r\n", question=14)) as server:
        probe = probe_of(BackendKind.REDIS, server.endpoint)
        await probe.run(1.0)
        await probe.run(1.0)
        probe.close()
        assert server.accepted == 2


def mysql_probe(endpoint: Endpoint, knock: DelayedKnock) -> Probe:
    return make_probe(ProbeSpec(TARGET, BackendKind.MYSQL, endpoint), network(knock))


async def test_mysql_is_greeted_a_few_times_then_only_knocked() -> None:
    knock = DelayedKnock(0.001)
    async with serving(says(mysql_greeting())) as server:
        probe = mysql_probe(server.endpoint, knock)
        samples = [await probe.run(1.0) for _ in range(20)]
        assert server.accepted == FIRST_GREETINGS
    kinds = [sample.kind for sample in samples]
    assert kinds[:FIRST_GREETINGS] == [SampleKind.HANDSHAKE] * FIRST_GREETINGS
    assert set(kinds[FIRST_GREETINGS:]) == {SampleKind.CONNECT}
    assert samples[-1].rtt == 0.001


async def test_mysql_behind_a_proxy_keeps_the_time_of_the_whole_way() -> None:
    async def far(visitor: Visitor) -> None:
        await visitor.answer(mysql_greeting())
        await visitor.wait_closed()

    async with serving(far, delay=0.05) as server:
        probe = mysql_probe(server.endpoint, DelayedKnock(0.002))
        samples = [await probe.run(1.0) for _ in range(5)]
    assert all(0.048 <= sample.rtt <= 0.09 for sample in samples)
    assert samples[-1].kind is SampleKind.CONNECT


async def test_mysql_that_blocked_us_is_said_once_with_the_remedy_then_knocked() -> None:
    async with serving(says(MYSQL_BLOCKED)) as server:
        probe = mysql_probe(server.endpoint, DelayedKnock(0.001))
        with pytest.raises(ProbeError, match="FLUSH HOSTS") as caught:
            await probe.run(1.0)
        assert caught.value.kind is Kind.DENIED
        for _ in range(5):
            assert (await probe.run(1.0)).kind is SampleKind.CONNECT
        assert server.accepted == 1


async def test_mysql_greetings_are_bounded_over_a_life_of_failures() -> None:
    async with serving(says(b"")) as server:
        probe = mysql_probe(server.endpoint, DelayedKnock(0.001))
        for _ in range(MAX_GREETINGS):
            with pytest.raises(ProbeError):
                await probe.run(1.0)
        for _ in range(5):
            assert (await probe.run(1.0)).kind is SampleKind.CONNECT
        assert server.accepted == MAX_GREETINGS
