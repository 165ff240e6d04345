"""DNS as a source of instances, asked of a real server: addresses, SRV records, what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from onetrip.discover.book import DiscoveryError
from onetrip.discover.names import Answer, DnsNames
from onetrip.discover.sources import parse_source
from support.dns_server import DnsServer, running_dns


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with running_dns() as server:
        server.ttl = 7
        yield server


async def ask(server: DnsServer, text: str) -> Answer:
    return await DnsNames([("127.0.0.1", server.port)]).ask(parse_source(text))


def places(answer: Answer) -> list[str]:
    return sorted(map(str, answer.endpoints))


async def test_every_address_of_a_name_is_an_instance_and_the_ttl_is_told(
    server: DnsServer,
) -> None:
    server.put("app.internal", "A", "10.0.0.2", "10.0.0.1")
    server.put("app.internal", "AAAA", "fd00::1")
    answer = await ask(server, "dns://app.internal:9000")
    assert places(answer) == ["10.0.0.1:9000", "10.0.0.2:9000", "[fd00::1]:9000"]
    assert answer.ttl == 7
    assert {e.tls_name for e in answer.endpoints} == {None}
    answer = await ask(server, "dns+https://app.internal")
    assert places(answer)[0] == "10.0.0.1:443"
    assert {e.tls_name for e in answer.endpoints} == {"app.internal"}


async def test_an_alias_counts_with_the_least_ttl_of_the_chain(server: DnsServer) -> None:
    server.put("app.internal", "A", "10.0.0.1")
    server.put("www.internal", "CNAME", "app.internal.")
    # Servers that follow aliases answer with the whole chain; this one leaves it to the asker.
    assert (await ask(server, "dns://www.internal:80")).endpoints == ()


async def test_a_name_without_records_has_no_instances(server: DnsServer) -> None:
    assert (await ask(server, "dns://gone.internal:80")).endpoints == ()
    server.put("app.internal", "TXT", '"hello"')
    assert (await ask(server, "dns://app.internal:80")).endpoints == ()


async def test_srv_records_tell_ports_and_the_least_priority_counts(server: DnsServer) -> None:
    server.put(
        "_http._tcp.app.internal",
        "SRV",
        "0 5 9001 one.internal.",
        "0 5 9002 two.internal.",
        "9 5 9003 spare.internal.",
    )
    server.put("one.internal", "A", "10.0.0.1")
    server.put("two.internal", "A", "10.0.0.2")
    server.put("two.internal", "AAAA", "fd00::2")
    answer = await ask(server, "dns+srv://_http._tcp.app.internal")
    assert places(answer) == ["10.0.0.1:9001", "10.0.0.2:9002", "[fd00::2]:9002"]
    server.put("_http._tcp.app.internal", "SRV", "0 0 0 .")
    assert (await ask(server, "dns+srv://_http._tcp.app.internal")).endpoints == ()


async def test_an_answer_that_fits_no_datagram_is_asked_for_again(server: DnsServer) -> None:
    server.put("app.internal", "A", *(f"10.0.1.{n}" for n in range(100)))
    assert len((await ask(server, "dns://app.internal:80")).endpoints) == 100
    assert server.over_tcp > 0


async def test_a_silent_server_is_a_failure_and_no_empty_answer(
    server: DnsServer,
) -> None:
    server.is_silent = True
    asker = DnsNames([("127.0.0.1", server.port)], timeout=0.2)
    with pytest.raises(DiscoveryError, match=r"look-up of app\.internal"):
        await asker.ask(parse_source("dns://app.internal:80"))
