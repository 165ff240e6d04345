"""One node orders, all of them serve: what it tells the others of its cluster.

An authority may ask any node for the answer to a challenge (many addresses, anycast), so the
authority is sent only once every live peer gives the answer. Certificates travel with
their keys, and so between nodes that have proved who they are by TLS, never otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from onetrip.acme.settings import Answers, Challenge, ChallengeKind
from onetrip.acme.storage import Storage
from onetrip.errors import PeerError
from onetrip.net.tls import ServerContext
from onetrip.timing import Clock, Deadline

STATE, PAIRS = "challenges", "certificates"
"""Names under which peers ask."""

PEER_TIMEOUT = 10.0
"""Longest wait for the peers to give an answer, s. Who takes longer hardly serves clients."""

PEER_POLL = 0.05
"""Time between two looks whether they have, s."""

Text = Annotated[str, Meta(max_length=1024)]


class ChallengeRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A challenge to be answered now (`settings.Challenge`)."""

    domain: Text
    kind: ChallengeKind
    token: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,256}$")]
    key_authorization: Text


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the others compare with what they have.

    Attributes:
        certificates: digest of key and chain, by domain.
    """

    challenges: Annotated[list[ChallengeRow], Meta(max_length=1000)]
    certificates: Annotated[dict[Text, Text], Meta(max_length=1000)]


_STATE = msgspec.msgpack.Decoder(State)
_PAIRS = msgspec.msgpack.Decoder(dict[Text, Annotated[bytes, Meta(max_length=256 * 1024)]])


def decode_state(data: bytes) -> State:
    """Decode and check what the ordering node told.

    Raises:
        PeerError: it is not that.
    """
    try:
        return _STATE.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PeerError(f"challenges cannot be read: {error}") from error


def decode_pairs(data: bytes) -> dict[str, bytes]:
    """Decode keys and chains by domain.

    Raises:
        PeerError: they are not that; the message holds nothing of them.
    """
    try:
        return _PAIRS.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PeerError("certificates cannot be read") from error


def digest_of(pair: bytes) -> str:
    """Return what tells two pairs of key and chain apart."""
    return hashlib.sha256(pair).hexdigest()


class Sharing:
    """The ordering node's side; stands between the orders and this node's own answers.

    Args:
        answers: this node's own.
        storage: where keys and chains are.
        live_peers: regions whose nodes can be asked by an authority now.
    """

    def __init__(
        self,
        answers: Answers,
        storage: Storage,
        live_peers: Callable[[], Collection[str]],
        clock: Clock,
    ) -> None:
        self._answers = answers
        self._storage = storage
        self._live_peers = live_peers
        self._clock = clock
        self._pending: list[Challenge] = []
        self._version = 0
        self._sent: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        self._pairs: dict[str, tuple[ServerContext, bytes, str]] = {}
        self.served: Callable[[], Mapping[str, ServerContext]] = dict
        """Returns what is served, by domain."""

    async def put(self, challenge: Challenge) -> None:
        """See `settings.Answers`."""
        await self._answers.put(challenge)
        self._pending.append(challenge)
        self._version += 1
        version, deadline = self._version, Deadline.after(PEER_TIMEOUT, self._clock)
        while deadline.remaining(self._clock) > 0:
            if all(self._answered.get(region, 0) >= version for region in self._live_peers()):
                return
            await self._clock.sleep(PEER_POLL)

    def take(self, challenge: Challenge) -> None:
        """See `settings.Answers`."""
        self._answers.take(challenge)
        if challenge in self._pending:
            self._pending.remove(challenge)

    def state_for(self, region: str) -> bytes:
        """Return the encoded `State`, and note how far `region` has come.

        A peer does what one reply says before it asks for the next one.
        """
        self._refresh()
        self._answered[region] = self._sent.get(region, 0)
        rows = [ChallengeRow(c.domain, c.kind, c.token, c.key_authorization) for c in self._pending]
        self._sent[region] = self._version
        digests = {domain: digest for domain, (_, _, digest) in self._pairs.items()}
        return msgspec.msgpack.encode(State(rows, digests))

    def pairs_for(self, region: str) -> bytes:
        """Return keys and chains by domain, encoded."""
        self._refresh()
        return msgspec.msgpack.encode({d: pair for d, (_, pair, _) in self._pairs.items()})

    def _refresh(self) -> None:
        served = self.served()
        for domain in [d for d in self._pairs if d not in served]:
            del self._pairs[domain]
        for domain, context in served.items():
            known = self._pairs.get(domain)
            if known is None or known[0] is not context:
                pair = self._storage.load(domain) or b""
                self._pairs[domain] = (context, pair, digest_of(pair))
