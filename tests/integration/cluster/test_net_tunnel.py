"""TLS without a connection: messages arrive whole, and only of who proves who they are."""

from __future__ import annotations

import pytest

from onetrip.errors import PeerError
from onetrip.net.tls import PeerContexts, load_peer_contexts, node_name, peer_regions
from onetrip.net.tunnel import Tunnel
from support.certs import Authority

MOST = 300_000


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PeerContexts]:
    """Return the contexts of two nodes, and of a stranger who calls himself one of them."""
    folder = tmp_path_factory.mktemp("certificates")
    own, other = Authority(folder, "own"), Authority(folder, "other")
    pairs = {name: own.issue(name, node_name(name)) for name in ("den", "bom")}
    made = {n: load_peer_contexts(own.file, p.cert, p.key, n) for n, p in pairs.items()}
    forged = other.issue("forged", node_name("den"))
    made["forged"] = load_peer_contexts(other.file, forged.cert, forged.key, "den")
    return made


def pass_on(one: Tunnel, other: Tunnel, most: int = 1 << 20) -> bytes | None:
    """Bring what `one` has to say to `other`, and return the message that it makes whole."""
    other.receive(one.take(most))
    return other.step()


def until_told(client: Tunnel, server: Tunnel, most: int = 1 << 20) -> bytes:
    """Let both go on until the server has a message."""
    for _ in range(1000):
        client.step()
        message = pass_on(client, server, most)
        if message is not None:
            return message
        pass_on(server, client, most)
    raise AssertionError("nothing arrived")


@pytest.mark.parametrize("most", [100, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_messages_arrive_whole_whatever_the_pieces(
    contexts: dict[str, PeerContexts], size: int, most: int
) -> None:
    seen: list[frozenset[str]] = []
    client = Tunnel(contexts["den"].client, node_name("bom"), MOST)
    server = Tunnel(contexts["bom"].server, None, MOST, lambda tls: seen.append(peer_regions(tls)))
    for letter in (b"a", b"b"):
        client.send(letter * size)
        assert until_told(client, server, most if size < 1000 else 1 << 16) == letter * size
    assert seen == [frozenset({"den"})]
    server.send(b"answer")
    server.step()
    assert pass_on(server, client) == b"answer"


def test_what_is_said_cannot_be_read_on_the_way(contexts: dict[str, PeerContexts]) -> None:
    client = Tunnel(contexts["den"].client, node_name("bom"), MOST)
    server = Tunnel(contexts["bom"].server, None, MOST)
    client.send(b"a private key")
    seen = b""
    message = None
    while message is None:
        client.step()
        data = client.take(1 << 20)
        seen += data
        server.receive(data)
        message = server.step()
        client.receive(server.take(1 << 20))
    assert message == b"a private key"
    assert b"private" not in seen


def test_a_certificate_of_another_authority_is_refused(contexts: dict[str, PeerContexts]) -> None:
    client = Tunnel(contexts["forged"].client, node_name("bom"), MOST)
    server = Tunnel(contexts["bom"].server, None, MOST)
    client.send(b"tell me")
    with pytest.raises(PeerError, match="TLS failed"):
        until_told(client, server)


def test_another_node_than_the_one_asked_is_refused(contexts: dict[str, PeerContexts]) -> None:
    client = Tunnel(contexts["den"].client, node_name("fra"), MOST)
    server = Tunnel(contexts["bom"].server, None, MOST)
    with pytest.raises(PeerError, match="TLS failed"):
        until_told(client, server)


def test_who_is_not_wanted_is_told_nothing(contexts: dict[str, PeerContexts]) -> None:
    def refuse(tls: object) -> None:
        raise PeerError("not you")

    client = Tunnel(contexts["den"].client, node_name("bom"), MOST)
    server = Tunnel(contexts["bom"].server, None, MOST, refuse)
    client.send(b"tell me")
    with pytest.raises(PeerError, match="not you"):
        until_told(client, server)


def test_what_is_too_long_is_refused(contexts: dict[str, PeerContexts]) -> None:
    client = Tunnel(contexts["den"].client, node_name("bom"), MOST)
    server = Tunnel(contexts["bom"].server, None, 1000)
    client.send(b"x" * 2000)
    with pytest.raises(PeerError, match="exceeds limit of 1000"):
        until_told(client, server)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100)])
def test_what_is_no_tls_is_refused(contexts: dict[str, PeerContexts], data: bytes) -> None:
    server = Tunnel(contexts["bom"].server, None, MOST)
    server.receive(data)
    with pytest.raises(PeerError, match="TLS failed"):
        server.step()
