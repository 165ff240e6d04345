"""The system's resolver as a source of instances, and the texts that name sources and servers."""

from __future__ import annotations

import socket

import pytest

from onetrip.discover.book import DiscoveryError
from onetrip.discover.names import Answer, SystemNames, parse_server
from onetrip.discover.sources import parse_source
from onetrip.errors import ConfigError
from onetrip.model.discovery import SourceKind, is_source
from onetrip.model.topology import Endpoint

APP = parse_source("dns://app.internal:80")


def asking(found: list[str] | OSError) -> SystemNames:
    async def look_up(host: str) -> list[str]:
        assert host == "app.internal"
        if isinstance(found, OSError):
            raise found
        return found

    return SystemNames(look_up)


async def test_the_system_tells_addresses_and_no_time_to_live() -> None:
    answer = await asking(["10.0.0.1", "::1"]).ask(APP)
    assert answer == Answer((Endpoint("10.0.0.1", 80), Endpoint("::1", 80)), None)


async def test_an_unknown_name_has_no_instances_and_anything_else_is_a_failure() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert await asking(unknown).ask(APP) == Answer(())
    for error in (socket.gaierror(socket.EAI_AGAIN, "try again"), OSError(5, "I/O error")):
        with pytest.raises(DiscoveryError, match=r"look-up of app\.internal"):
            await asking(error).ask(APP)


@pytest.mark.parametrize(
    ("text", "kind", "name", "port"),
    [
        ("dns://app.internal:9000", SourceKind.DNS, "app.internal", 9000),
        ("dns://app:9000", SourceKind.DNS, "app", 9000),
        ("dns+https://app.internal", SourceKind.HTTPS, "app.internal", 443),
        ("dns+https://app.internal:9443", SourceKind.HTTPS, "app.internal", 9443),
        ("dns+srv://_http._tcp.app.internal", SourceKind.SRV, "_http._tcp.app.internal", 0),
        ("kubernetes://shop/web:http", SourceKind.KUBERNETES, "shop/web", "http"),
        ("kubernetes://shop/web:8080", SourceKind.KUBERNETES, "shop/web", 8080),
    ],
)
def test_sources_are_parsed_and_written_as_they_were(
    text: str, kind: SourceKind, name: str, port: int | str
) -> None:
    source = parse_source(text)
    assert (source.kind, source.name, source.port) == (kind, name, port)
    assert parse_source(str(source)) == source
    assert is_source(text)


@pytest.mark.parametrize(
    "text",
    [
        "dns://app.internal",
        "dns://app.internal:0",
        "dns://10.0.0.1:80",
        "dns://[::1]:80",
        "dns://a b:80",
        "dns+udp://app.internal:80",
        "dns+srv://app.internal",
        "dns+srv://_http._sctp.app.internal",
        "dns+srv://_http._tcp.app.internal:80",
        "kubernetes://web:80",
        "kubernetes://shop/web",
        "kubernetes://shop/web:0",
        "kubernetes://shop/web:99999",
        "kubernetes://../web:80",
        "kubernetes://shop/web?x=1:80",
    ],
)
def test_what_names_no_source_is_refused(text: str) -> None:
    assert is_source(text)
    with pytest.raises(ConfigError):
        parse_source(text)


@pytest.mark.parametrize("text", ["10.0.0.1:80", "app.internal:80", "https://app.internal"])
def test_addresses_and_names_are_no_sources(text: str) -> None:
    assert not is_source(text)


def test_one_endpoint_stands_for_all_that_a_source_names() -> None:
    assert str(APP.stand_in) == "app.internal:80"
    assert str(parse_source("kubernetes://shop/web:http").stand_in) == "web.shop.kubernetes:0"


def test_servers_are_addresses_with_a_port_or_without() -> None:
    assert parse_server("10.0.0.53") == ("10.0.0.53", 53)
    assert parse_server("10.0.0.53:5353") == ("10.0.0.53", 5353)
    assert parse_server("::1") == ("::1", 53)
    assert parse_server("[::1]:5353") == ("::1", 5353)
    for text in ("dns.example", "10.0.0.53:0", "10.0.0.53:x", "[::1", ""):
        with pytest.raises(ValueError, match=r"."):
            parse_server(text)
