"""What is asked in private over a store that others read: only nodes of the cluster are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from onetrip.cluster.shared_secrets import LIFETIME, MAX_SESSIONS, PIECE, Answer, SharedSecrets
from onetrip.errors import PeerError
from onetrip.model.topology import RegionId
from onetrip.net.tls import PeerContexts, load_peer_contexts, node_name
from support.certs import Authority
from support.clock import VirtualClock

DEN, BOM = RegionId("den"), RegionId("bom")
KEY = b"-----BEGIN PRIVATE KEY-----" + bytes(3 * PIECE)


class Wire:
    """Brings questions to nodes, and keeps what everybody could read."""

    def __init__(self) -> None:
        self.nodes: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.seen: list[bytes] = []

    async def pass_on(self, region: str, question: bytes) -> bytes:
        if region not in self.nodes:
            raise PeerError("no responders")
        answer = await self.nodes[region](question)
        self.seen += [question, answer]
        return answer


class Calls:
    """One node's end of the wire."""

    def __init__(self, wire: Wire, region: str) -> None:
        self.wire, self.region = wire, region

    async def serve(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self.wire.nodes[self.region] = answer

    async def ask(self, region: RegionId, question: bytes) -> bytes:
        return await self.wire.pass_on(region, question)


class Peer:
    """A node that tells and asks."""

    def __init__(
        self,
        wire: Wire,
        region: RegionId,
        contexts: PeerContexts | None,
        clock: VirtualClock,
        secret: bytes = b"shared",
    ) -> None:
        self.contexts = contexts
        self.told: list[str] = []
        self.refused: list[str] = []
        self.secrets = {"certificates": self._tell}
        self.shared = SharedSecrets(
            region,
            secret,
            Calls(wire, region),
            self,
            clock=clock,
            on_refused=lambda address, reason, detail: self.refused.append(detail),
        )

    def _tell(self, region: str) -> bytes:
        self.told.append(region)
        return KEY


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PeerContexts]:
    folder: Path = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    pairs = {name: authority.issue(name, node_name(name)) for name in ("den", "bom")}
    return {n: load_peer_contexts(authority.file, p.cert, p.key, n) for n, p in pairs.items()}


class Rig:
    """Two nodes that know each other."""

    def __init__(self, contexts: dict[str, PeerContexts], secret: bytes = b"shared") -> None:
        self.contexts, self.clock, self.wire = contexts, VirtualClock(), Wire()
        self.den = Peer(self.wire, DEN, contexts["den"], self.clock)
        self.bom = Peer(self.wire, BOM, contexts["bom"], self.clock, secret)

    async def open(self) -> None:
        for peer in (self.den, self.bom):
            await peer.shared.open()


@pytest.fixture
async def rig(contexts: dict[str, PeerContexts]) -> Rig:
    made = Rig(contexts)
    await made.open()
    return made


async def test_a_node_is_told_and_nobody_else_can_read_it(rig: Rig) -> None:
    assert await rig.bom.shared.fetch(DEN, "certificates") == KEY
    assert rig.den.told == ["bom"]
    assert not any(b"PRIVATE" in message or b"certificates" in message for message in rig.wire.seen)


async def test_a_session_serves_until_its_time_is_up(rig: Rig) -> None:
    await rig.bom.shared.fetch(DEN, "certificates")
    first = len(rig.wire.seen)
    await rig.bom.shared.fetch(DEN, "certificates")
    again = len(rig.wire.seen) - first
    assert again < first  # no handshake
    rig.clock.step(LIFETIME + 1)
    await rig.den.shared.tick()
    await rig.bom.shared.fetch(DEN, "certificates")
    assert len(rig.wire.seen) - first - again == first


async def test_a_node_that_was_started_anew_is_asked_anew(rig: Rig) -> None:
    await rig.bom.shared.fetch(DEN, "certificates")
    again = Peer(rig.wire, DEN, rig.contexts["den"], rig.clock)
    await again.shared.open()
    assert await rig.bom.shared.fetch(DEN, "certificates") == KEY
    assert again.told == ["bom"]


async def test_what_is_not_told_is_refused(rig: Rig) -> None:
    with pytest.raises(PeerError, match="peer den: not answered"):
        await rig.bom.shared.fetch(DEN, "other")
    assert rig.den.refused == ["'other' is not told here"]


async def test_a_node_that_is_gone_does_not_answer(rig: Rig) -> None:
    del rig.wire.nodes["den"]
    with pytest.raises(PeerError, match="no responders"):
        await rig.bom.shared.fetch(DEN, "certificates")


async def test_another_secret_is_refused(contexts: dict[str, PeerContexts]) -> None:
    rig = Rig(contexts, secret=b"another")
    await rig.open()
    with pytest.raises(PeerError, match="not answered"):
        await rig.bom.shared.fetch(DEN, "certificates")
    assert rig.den.refused == ["it does not share the cluster secret"]
    assert rig.den.told == []


async def test_a_certificate_speaks_for_its_own_region_only(rig: Rig) -> None:
    forged = Peer(rig.wire, RegionId("fra"), rig.contexts["bom"], rig.clock)
    with pytest.raises(PeerError, match="not answered"):
        await forged.shared.fetch(DEN, "certificates")
    assert rig.den.refused == ["certificate for bom asks for fra"]
    assert rig.den.told == []


async def test_without_tls_between_nodes_nothing_is_asked_or_told(rig: Rig) -> None:
    rig.den.contexts = None
    with pytest.raises(PeerError, match="not answered"):
        await rig.bom.shared.fetch(DEN, "certificates")
    with pytest.raises(PeerError, match="cannot be asked over TLS"):
        await rig.den.shared.fetch(BOM, "certificates")


@pytest.mark.parametrize("question", [b"", b"\xc1", b"\x93\xa3den\xc4\x01a\xc4\x00"])
async def test_what_is_no_question_is_answered_so(rig: Rig, question: bytes) -> None:
    answer = msgspec.msgpack.decode(await rig.wire.nodes["den"](question), type=Answer)
    assert answer == Answer(b"", "the question cannot be read")


async def test_sessions_that_never_end_are_bounded(rig: Rig) -> None:
    for number in range(MAX_SESSIONS + 10):
        question = msgspec.msgpack.encode(["bom", number.to_bytes(16, "big"), b""])
        await rig.wire.nodes["den"](question)
    assert len(rig.den.shared._answered) == MAX_SESSIONS
