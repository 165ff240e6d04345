"""What the ordering node tells its peers and what they make of it, on a clock that stands still."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from onetrip.acme.follower import Follower
from onetrip.acme.settings import Challenge
from onetrip.acme.sharing import (
    PAIRS,
    PEER_TIMEOUT,
    STATE,
    Sharing,
    decode_pairs,
    decode_state,
)
from onetrip.acme.storage import Storage
from onetrip.errors import ConfigError, PeerError
from onetrip.net.names import Names
from onetrip.net.tls import Certificate
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.clock import VirtualClock

NOW = 1_750_000_000.0
CHALLENGE = Challenge("a.test", "http-01", "token", "token.thumbprint")


class FakeAnswers:
    """Keeps what is answered now."""

    def __init__(self):
        self.given = []

    async def put(self, challenge):
        self.given.append(challenge)

    def take(self, challenge):
        self.given.remove(challenge)


class FakeContext:
    """Stands for a server context that was read from a file."""

    def __init__(self, certificate):
        self.certificate = certificate


def load(path):
    text = path.read_text()
    if not text.startswith("pair"):
        raise ConfigError(f"{path.name}: no certificate")
    return FakeContext(Certificate(str(path), Names(["a.test"]), 2e9, 1.7e9))


class World:
    """An ordering node with `live` peers, and one of them as far as certificates go."""

    def __init__(self, folder):
        self.clock = VirtualClock()
        self.live = ["bom"]
        self.own, self.theirs = FakeAnswers(), FakeAnswers()
        self.storage = Storage(folder / "den", "https://ca.test/")
        self.copy = Storage(folder / "bom", "https://ca.test/")
        self.storage.open(NOW)
        self.copy.open(NOW)
        self.sharing = Sharing(self.own, self.storage, lambda: self.live, self.clock)
        self.served = {}
        self.sharing.served = lambda: self.served
        self.asked = []
        self.told = []
        self.is_up = True
        self.follower = self.follow()

    def follow(self):
        return Follower(
            self.fetch,
            self.theirs,
            self.copy,
            load,
            renew_ratio=1 / 3,
            clock=self.clock,
            metrics=Metrics(),
            log=silent_log(),
            tell=lambda *event: self.told.append(event),
            on_change=lambda: None,
        )

    async def fetch(self, name):
        self.asked.append(name)
        if not self.is_up:
            raise PeerError("gone")
        make = {STATE: self.sharing.state_for, PAIRS: self.sharing.pairs_for}[name]
        return make("bom")

    def issue(self, pair):
        self.served["a.test"] = self.storage.save("a.test", pair, load)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_authority_is_sent_once_every_live_peer_gives_the_answer(world):
    put = asyncio.ensure_future(world.sharing.put(CHALLENGE))
    await world.clock.advance(1.0)
    assert world.own.given == [CHALLENGE]
    await world.follower.update(("a.test",))
    await world.follower.check()
    assert world.theirs.given == [CHALLENGE]
    await world.clock.advance(1.0)
    assert not put.done()  # it has the answer; that it gives it shows when it asks again
    await world.follower.check()
    await world.clock.advance(1.0)
    assert put.done()
    world.sharing.take(CHALLENGE)
    await world.follower.check()
    assert (world.own.given, world.theirs.given) == ([], [])


async def test_silent_peer_holds_up_an_order_for_a_bounded_time(world):
    put = asyncio.ensure_future(world.sharing.put(CHALLENGE))
    await world.clock.advance(PEER_TIMEOUT - 1)
    assert not put.done()
    await world.clock.advance(1.1)
    assert put.done()


async def test_dead_peer_is_not_waited_for(world):
    world.live = []
    await asyncio.wait_for(world.sharing.put(CHALLENGE), 5)


async def test_certificate_and_its_renewal_reach_the_peer(world):
    await world.follower.update(("a.test",))
    for pair in (b"pair one", b"pair two"):
        world.issue(pair)
        await world.follower.check()
        assert world.copy.load("a.test") == pair
        assert list(world.follower.served()) == ["a.test"]
    [status] = world.follower.statuses()
    assert (status.state.value, status.expires_at) == ("valid", 2e9)


async def test_keys_travel_only_when_something_changed(world):
    await world.follower.update(("a.test",))
    world.issue(b"pair one")
    for _ in range(5):
        await world.follower.check()
    assert world.asked.count(PAIRS) == 1


async def test_restart_of_a_peer_needs_nobody(world):
    await world.follower.update(("a.test",))
    world.issue(b"pair one")
    await world.follower.check()
    world.is_up = False
    again = world.follow()
    await again.update(("a.test",))
    await again.check()
    assert list(again.served()) == ["a.test"]
    world.is_up = True
    world.asked.clear()
    await again.check()
    assert world.asked == [STATE]


async def test_unusable_pair_leaves_the_old_one_and_is_not_fetched_for_ever(world):
    await world.follower.update(("a.test",))
    world.issue(b"pair one")
    await world.follower.check()
    world.storage.path("a.test").write_bytes(b"damaged")
    world.served["a.test"] = FakeContext(None)
    for _ in range(3):
        await world.follower.check()
    assert world.copy.load("a.test") == b"pair one"
    assert world.asked.count(PAIRS) == 2


async def test_domain_that_is_not_configured_here_is_not_taken(world):
    await world.follower.update(("b.test",))
    world.issue(b"pair one")
    await world.follower.check()
    assert world.follower.served() == {}
    assert PAIRS not in world.asked


@pytest.mark.parametrize(
    "state",
    [
        b"\xff",
        {"challenges": []},
        {"challenges": [], "certificates": {}, "more": 1},
        {
            "challenges": [
                {"domain": "a", "kind": "dns-01", "token": "t", "key_authorization": ""}
            ],
            "certificates": {},
        },
        {
            "challenges": [
                {"domain": "a", "kind": "http-01", "token": "../x", "key_authorization": ""}
            ],
            "certificates": {},
        },
        {"challenges": [], "certificates": {"a": "x" * 2000}},
    ],
)
def test_state_that_is_none_is_refused(state):
    data = state if isinstance(state, bytes) else msgspec.msgpack.encode(state)
    with pytest.raises(PeerError, match="challenges cannot be read"):
        decode_state(data)


def test_pairs_that_are_none_are_refused_without_their_text():
    with pytest.raises(PeerError) as caught:
        decode_pairs(msgspec.msgpack.encode({"a.test": "PRIVATE KEY"}))
    assert str(caught.value) == "certificates cannot be read"
