"""What nodes ask each other in private, over a `Bus` that others can read: TLS in its messages.

The same as `PeerSync.fetch_secret`, for nodes without an address: the other side proves by its
certificate which region it is, and by the cluster secret that it is of this cluster. A question is
one message of the bus, its answer another; what is longer takes several. Sessions are kept for a
while, because a node that follows another one's certificates asks every second.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Mapping
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from onetrip.cluster.bus import Calls
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import PeerError
from onetrip.model.topology import RegionId
from onetrip.net.accept import OnRefused
from onetrip.net.tls import PeerContexts, node_name, peer_regions
from onetrip.net.tunnel import Tunnel
from onetrip.timing import Clock

PIECE = 256 * 1024
"""Bytes of TLS in one message of the bus."""

MAX_ANSWER = 32 * 1024 * 1024
"""Bytes of an answer."""

MAX_QUESTION = 1024
"""Bytes of what is asked."""

MAX_STEPS = 16 + MAX_ANSWER // PIECE
"""Messages of one answer."""

MAX_SESSIONS = 1024
"""Sessions that others have with this node; of more, the oldest ends."""

LIFETIME = 300.0
"""Seconds that a session is used: certificates may be renewed, or refused from now on."""

PURPOSE = "bus-secret"
"""What the MAC is for (`cluster/tickets`)."""


class Question(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Bytes of a session, towards the node that answers."""

    region: Annotated[str, Meta(max_length=64)]
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    data: Annotated[bytes, Meta(max_length=PIECE)]


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Bytes of a session, towards the node that asks; or why it has ended."""

    data: Annotated[bytes, Meta(max_length=PIECE)]
    error: Annotated[str, Meta(max_length=300)] = ""


class Request(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is asked, within TLS."""

    name: Annotated[str, Meta(max_length=64)]
    mac: Annotated[str, Meta(max_length=64)]


_QUESTION = msgspec.msgpack.Decoder(Question)
_ANSWER = msgspec.msgpack.Decoder(Answer)
_REQUEST = msgspec.msgpack.Decoder(Request)


class Session:
    """One side of a session, and when it ends."""

    def __init__(self, tunnel: Tunnel, ends_at: float, id: bytes) -> None:
        self.tunnel = tunnel
        self.ends_at = ends_at
        self.id = id
        self.is_new = True


class Offers(Protocol):
    """What this node tells in private, and how it shows itself."""

    @property
    def contexts(self) -> PeerContexts | None:
        """For TLS between nodes; None tells and asks nothing."""

    @property
    def secrets(self) -> Mapping[str, Callable[[str], bytes]]:
        """What is told, by name: makes it for the region that asks."""


class SharedSecrets:
    """Asks and answers in private over `calls`.

    Args:
        on_refused: told of (address, reason, detail) when somebody is not taken for a peer.
    """

    def __init__(
        self,
        region: RegionId,
        secret: bytes,
        calls: Calls,
        offers: Offers,
        *,
        clock: Clock,
        on_refused: OnRefused = lambda address, reason, detail: None,
    ) -> None:
        self._region = region
        self._secret = secret
        self._calls = calls
        self._offers = offers
        self._clock = clock
        self._on_refused = on_refused
        self._asked: dict[RegionId, Session] = {}
        self._answered: dict[bytes, Session] = {}
        self._locks: dict[RegionId, asyncio.Lock] = {}

    async def open(self) -> None:
        """Answer from now on; what was begun over another connection has ended."""
        self._asked.clear()
        self._answered.clear()
        await self._calls.serve(self._answer)

    async def tick(self) -> None:
        """Forget sessions whose time is up."""
        now = self._clock.now()
        for id, session in list(self._answered.items()):
            if now > session.ends_at:
                del self._answered[id]

    # --- asking -----------------------------------------------------------------------------

    async def fetch(self, region: RegionId, name: str) -> bytes:
        """Return what the node of `region` tells in private under `name`.

        Raises:
            PeerError: it did not answer, is not that node, or tells nothing of that name.
        """
        async with self._locks.setdefault(region, asyncio.Lock()):
            session = self._session(region)
            was_new = session.is_new
            try:
                return await self._ask(region, session, name)
            except PeerError:
                self._asked.pop(region, None)
                if was_new:
                    raise
            # Its node may have been started anew, and know nothing of the session.
            return await self._ask(region, self._session(region), name)

    def _session(self, region: RegionId) -> Session:
        now, known, contexts = self._clock.now(), self._asked.get(region), self._offers.contexts
        if contexts is None:
            raise PeerError(f"peer {region} cannot be asked over TLS")
        if known is None or now > known.ends_at:
            tunnel = Tunnel(contexts.client, node_name(region), MAX_ANSWER)
            known = Session(tunnel, now + LIFETIME, secrets.token_bytes(16))
            self._asked[region] = known
        return known

    async def _ask(self, region: RegionId, session: Session, name: str) -> bytes:
        mac = sign(self._secret, PURPOSE, session.id, self._region.encode(), name.encode())
        session.tunnel.send(msgspec.msgpack.encode(Request(name, mac)))
        for _ in range(MAX_STEPS):
            message = session.tunnel.step()
            if message is not None:
                session.is_new = False
                return message
            question = Question(self._region, session.id, session.tunnel.take(PIECE))
            reply = await self._calls.ask(region, msgspec.msgpack.encode(question))
            try:
                answer = _ANSWER.decode(reply)
            except msgspec.DecodeError as error:
                raise PeerError(f"answer of {region} cannot be read: {error}") from error
            if answer.error:
                raise PeerError(f"peer {region}: {answer.error}")
            session.tunnel.receive(answer.data)
        raise PeerError(f"answer of {region} takes more than {MAX_STEPS} messages")

    # --- answering --------------------------------------------------------------------------

    async def _answer(self, data: bytes) -> bytes:
        try:
            question = _QUESTION.decode(data)
        except msgspec.DecodeError:
            return msgspec.msgpack.encode(Answer(b"", "the question cannot be read"))
        try:
            answer = Answer(self._reply(question))
        except PeerError as error:
            self._answered.pop(question.session, None)
            self._on_refused(f"NATS, as {question.region}", "secret", str(error))
            answer = Answer(b"", "not answered")
        return msgspec.msgpack.encode(answer)

    def _reply(self, question: Question) -> bytes:
        session = self._answered.get(question.session) or self._begin(question)
        session.tunnel.receive(question.data)
        message = session.tunnel.step()
        if message is not None:
            session.tunnel.send(self._told(question, message))
            session.tunnel.step()
        return session.tunnel.take(PIECE)

    def _begin(self, question: Question) -> Session:
        contexts = self._offers.contexts
        if contexts is None:
            raise PeerError("cluster.tls is not set")

        def check(tls: ssl.SSLObject) -> None:
            regions = peer_regions(tls)
            if question.region not in regions:
                names = ", ".join(sorted(regions)) or "no region"
                raise PeerError(f"certificate for {names} asks for {question.region}")

        if len(self._answered) >= MAX_SESSIONS:
            del self._answered[next(iter(self._answered))]
        tunnel = Tunnel(contexts.server, None, MAX_QUESTION, check)
        ends_at = self._clock.now() + LIFETIME
        session = self._answered[question.session] = Session(tunnel, ends_at, question.session)
        return session

    def _told(self, question: Question, message: bytes) -> bytes:
        try:
            request = _REQUEST.decode(message)
        except msgspec.DecodeError as error:
            raise PeerError("the request cannot be read") from error
        parts = (question.session, question.region.encode(), request.name.encode())
        if not verify(self._secret, request.mac, PURPOSE, *parts):
            raise PeerError("it does not share the cluster secret")
        make = self._offers.secrets.get(request.name)
        if make is None:
            raise PeerError(f"{request.name!r} is not told here")
        return make(question.region)
