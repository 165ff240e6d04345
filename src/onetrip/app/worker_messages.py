"""What a node and its workers tell each other, as MessagePack behind `wire/frames`.

Both ends come from one installation: a worker of another version is refused, not understood.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeAlias, TypeVar

import msgspec

from onetrip.errors import Kind, ProtocolError
from onetrip.model.catalog import Catalog, EnvironmentId
from onetrip.model.edge import Purge
from onetrip.model.measure import Observation, RouteKey, Target
from onetrip.model.placement import Placement
from onetrip.model.topology import RegionId, Topology
from onetrip.observe.merge import Figure
from onetrip.observe.spans import OtlpSettings
from onetrip.observe.taps import SentrySettings
from onetrip.proxy.ejection import Verdict

T = TypeVar("T")

MAX_MESSAGE = 256 * 1024 * 1024
"""Largest message, bytes: the catalog of 10,000 projects takes about 5 MB, placements of 100,000
routes 20 MB."""


class Message(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Base of every message."""


# --- from the node --------------------------------------------------------------------------


class Tables(Message, frozen=True):
    """Route by these from now on.

    Attributes:
        classes: route classes that are established already, by environment.
    """

    catalog: Catalog
    topology: Topology
    classes: list[tuple[EnvironmentId, list[str]]]


class Placements(Message, frozen=True):
    """What changed in the placements.

    Attributes:
        base: version that the change is to; None replaces everything.
    """

    base: int | None
    version: int
    routes: list[tuple[RouteKey, Placement]]
    routes_gone: list[RouteKey]
    environments: list[tuple[EnvironmentId, Placement]]
    environments_gone: list[EnvironmentId]


class Failing(Message, frozen=True):
    """The targets that cannot serve, all of them."""

    targets: list[Target]


class ReadPlaces(Message, frozen=True):
    """Where applications read and write, as of now; what is missing is read from the primary.

    Attributes:
        columns: environment, backend, and what its nearest endpoints are listed under in
            `nearest`; None where that is as it was told last.
        nearest: the endpoint that each region reads.
        primaries: the endpoint that takes writes, by backend that is watched.
        homes: the region that this is nearest to, by backend.
    """

    columns: list[tuple[EnvironmentId, str, str]] | None
    nearest: dict[str, dict[RegionId, str]]
    primaries: dict[str, str]
    homes: dict[str, RegionId]


NO_PLACES = ReadPlaces([], {}, {}, {})


class Answer(Message, frozen=True):
    """The answer to a `Question`; the `ReadPlaces` before it are as of this answer.

    Attributes:
        position: as text; None where there is none.
        is_so: the endpoint has the position, or the relays took it.
        error: why the question could not be answered; None where it was.
        kind: of the error.
    """

    number: int
    position: str | None = None
    is_so: bool = False
    error: str | None = None
    kind: Kind = Kind.UNAVAILABLE


class Pair(msgspec.Struct, array_like=True, frozen=True):
    """A certificate chain with its key, PEM, and the hosts to use it for."""

    cert: bytes
    key: bytes
    hosts: tuple[str, ...]


class Credentials(Message, frozen=True):
    """The certificates to serve from now on.

    Attributes:
        min_version, protocols: of TLS for clients.
        awaited: names whose certificate is still to come.
        peer: authority, certificate and key between nodes, PEM; None without `cluster.tls`.
        peer_protocols: of TLS for what nodes forward.
        https_port: requests in clear are sent there; None serves them.
    """

    pairs: list[Pair]
    min_version: str
    protocols: tuple[str, ...]
    awaited: tuple[str, ...]
    peer: tuple[bytes, bytes, bytes] | None
    peer_protocols: tuple[str, ...]
    https_port: int | None


class HttpAnswer(Message, frozen=True):
    """Answer an authority that asks for a token; None ends that."""

    token: str
    body: str | None


class TlsAnswer(Message, frozen=True):
    """Answer its handshakes for a name; None ends that."""

    name: str
    pair: bytes | None


class PurgeOrder(Message, frozen=True):
    """Forget kept responses, and tell how many."""

    number: int
    order: Purge


class Setup(Message, frozen=True):
    """The first message: everything that a worker needs to serve.

    Attributes:
        proxy: the fields of `ProxySettings`, this worker's share of the limits.
        trusted_proxies: networks, as text.
        sockets: descriptors to serve, by the name of the setting.
        board, workers: descriptor of the memory in which the workers tell each other how many
            connections they have (`net/fairness`), and their number.
        drain_timeout: time for running requests when the node is gone, s.
    """

    version: str
    index: int
    region: RegionId
    proxy: dict[str, Any]
    trusted_proxies: list[str]
    source_address: str | None
    secret: bytes | None
    log_level: str
    has_access_log: bool
    has_residency_log: bool
    otlp: OtlpSettings | None
    sentry: SentrySettings | None
    sockets: dict[str, list[int]]
    board: int
    workers: int
    drain_timeout: float
    tables: Tables
    placements: Placements
    failing: Failing
    places: ReadPlaces
    credentials: Credentials
    answers: list[HttpAnswer | TlsAnswer]


class Drain(Message, frozen=True):
    """Stop accepting, finish what is in progress within `timeout` s, and end."""

    timeout: float
    is_patient: bool


ToWorker: TypeAlias = (
    Setup
    | Tables
    | Placements
    | Failing
    | ReadPlaces
    | Answer
    | Credentials
    | HttpAnswer
    | TlsAnswer
    | PurgeOrder
    | Drain
)


# --- from a worker --------------------------------------------------------------------------


class Started(Message, frozen=True):
    """The worker accepts connections."""

    version: str


class Seen(Message, frozen=True):
    """Finished exchanges."""

    observations: list[Observation]


class Lines(Message, frozen=True):
    """Lines of the access log, and of the residency log, each without its end."""

    lines: list[bytes]
    decisions: list[bytes]


class Figures(Message, frozen=True):
    """How the worker is: sent at least every half second, which also says that it lives.

    Attributes:
        changed: metrics that changed.
        placements: version of those in use.
    """

    changed: list[Figure]
    connections: int
    placements: int


class Refusal(Message, frozen=True):
    """Somebody was not taken for a peer."""

    address: str
    reason: str
    detail: str


class Judged(Message, frozen=True):
    """An instance was ejected by this worker, or has returned."""

    verdict: Verdict


class Purged(Message, frozen=True):
    """The answer to a purge: how many responses were forgotten."""

    number: int
    count: int


class Asked(Enum):
    """What a worker asks its node; see `Replication`, and `proxy.consistency.Relays`."""

    POSITION = "position"
    SHOWN = "shown"
    REACHED = "reached"
    HOLD = "hold"
    WRITTEN = "written"


class Question(Message, frozen=True):
    """Ask databases or relays now, and tell what they say.

    Attributes:
        number: of this question; the answer has the same one.
        place: the endpoint, or the region of the relays; "" for the primary.
        position: to be reached or held, as text.
        within: time after which nobody waits for the answer, s.
    """

    number: int
    what: Asked
    backend: str
    place: str
    position: str
    within: float


class Trouble(Message, frozen=True):
    """Something that the node told could not be used; the worker goes on with what it had."""

    what: str
    reason: str


ToNode: TypeAlias = (
    Started | Seen | Lines | Figures | Refusal | Judged | Purged | Question | Trouble
)

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_TO_NODE: msgspec.msgpack.Decoder[ToNode] = msgspec.msgpack.Decoder(ToNode)


def encode(message: ToWorker | ToNode) -> bytes:
    """Return a message as bytes."""
    return _ENCODER.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Return a message of the node.

    Raises:
        ProtocolError: the bytes are none.
    """
    return _decode(_TO_WORKER, data)


def decode_to_node(data: bytes) -> ToNode:
    """Return a message of a worker.

    Raises:
        ProtocolError: the bytes are none.
    """
    return _decode(_TO_NODE, data)


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"message of another process cannot be read: {error}") from error
