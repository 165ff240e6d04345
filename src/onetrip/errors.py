"""The exception tree: who was at fault, what kind of fault, and whether to try again.

Every failure that leaves a package is one of these. The request path maps `kind` to a reply in
one table (`proxy/replies`); nothing else picks status codes. Messages name the subject, the value
and the limit, and never hold header values, query strings or credentials.
"""

from __future__ import annotations

from enum import Enum


class Side(Enum):
    """Which side of this node a failure came from."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    OURS = "ours"


class Kind(Enum):
    """What went wrong; a small closed set, safe as a metric label."""

    MALFORMED = "malformed"
    """The peer broke the protocol (400 downstream, 502 upstream)."""
    HEAD_TOO_LARGE = "head_too_large"
    BODY_TOO_LARGE = "body_too_large"
    URI_TOO_LONG = "uri_too_long"
    UNSUPPORTED = "unsupported"
    """A valid message that this node does not implement (501)."""
    VERSION = "version"
    """An HTTP version that this node does not speak (505)."""
    LENGTH_REQUIRED = "length_required"
    LOOP = "loop"
    """The request came through this cluster too often."""
    NO_ROUTE = "no_route"
    MISDIRECTED = "misdirected"
    """A host that the connection's certificate does not cover (421)."""
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    """The whole request took too long."""
    TOO_SLOW = "too_slow"
    """The request's body came, but too slowly."""
    CONNECT = "connect"
    """The connection could not be opened: the next hop cannot have acted."""
    RESET = "reset"
    """The peer closed or reset before its message was complete."""
    REFUSED = "refused"
    """The peer has no room for the message, and has not acted on it."""
    LEAVING = "leaving"
    """The peer ends its connection, and has not acted on the message."""
    UNAVAILABLE = "unavailable"
    """No instance is ready."""
    RESIDENCY = "residency"
    """Nobody is ready but regions that the request must not run in."""
    UNHEALTHY = "unhealthy"
    """It answers, and says itself that it cannot serve (5xx to a health probe)."""
    OVERLOADED = "overloaded"
    EXHAUSTED = "exhausted"
    """This machine ran out of file descriptors, ports or memory for sockets."""
    CONNECTION_LIMIT = "connection_limit"
    """Every connection to the next hop is in use, and none became free."""
    QUEUE_LIMIT = "queue_limit"
    """Enough requests wait for a connection to the next hop already."""
    REQUEST_LIMIT = "request_limit"
    """Every instance has as many requests as it may."""
    DENIED = "denied"
    CONFIG = "config"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    NOT_ALLOWED = "not_allowed"
    """An address that has other methods (405)."""
    EXPECTATION = "expectation"
    """An Expect header that cannot be met (417)."""
    RATE = "rate"
    """More requests than a caller may send (429)."""
    INTERNAL = "internal"
    INVALID = "invalid"


class OnetripError(Exception):
    """Base of every onetrip failure.

    Attributes:
        side: who was at fault.
        kind: what went wrong.
        retryable: true only while the next hop cannot have acted on the request.
    """

    side: Side = Side.OURS
    kind: Kind = Kind.INVALID
    retryable: bool = False

    def __init__(self, message: str, *, kind: Kind | None = None, retryable: bool | None = None):
        super().__init__(message)
        if kind is not None:
            self.kind = kind
        if retryable is not None:
            self.retryable = retryable


class DownstreamError(OnetripError):
    """The client broke the protocol, a limit or a deadline."""

    side = Side.DOWNSTREAM
    kind = Kind.MALFORMED


class UpstreamError(OnetripError):
    """The next hop failed. `retryable` is true only while it cannot have acted on the request."""

    side = Side.UPSTREAM
    kind = Kind.RESET


class ExhaustedError(UpstreamError):
    """This machine is out of what a connection needs: not the fault of the next hop."""

    side = Side.OURS
    kind = Kind.EXHAUSTED


class ProtocolError(OnetripError):
    """Bytes that break a wire format; the caller knows which side sent them."""

    kind = Kind.MALFORMED


class LimitError(ProtocolError):
    """A message larger than a configured limit; `kind` says which part."""

    kind = Kind.HEAD_TOO_LARGE


class ConfigError(OnetripError):
    """A configuration that cannot be used. The message is one line: file, key and reason."""

    kind = Kind.CONFIG


class ProbeError(OnetripError):
    """A probe that gave no RTT; `kind` is its metric label."""

    side = Side.UPSTREAM
    kind = Kind.TIMEOUT


class ApiError(OnetripError):
    """A refused admin API call; `kind` decides its status code.

    Attributes:
        field: the offending field, or an empty string when no single field is to blame.
        value: what it held, shortened, or an empty string.
        limit: what it must be, or an empty string.
    """

    kind = Kind.INVALID

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        kind: Kind | None = None,
        value: str = "",
        limit: str = "",
    ):
        super().__init__(message, kind=kind)
        self.field = field
        self.value = value
        self.limit = limit


class PeerError(OnetripError):
    """A peer's message or reply that cannot be used."""

    side = Side.UPSTREAM
    kind = Kind.MALFORMED


class ReplicationError(OnetripError):
    """A database that does not tell its position: out of reach, or not with this account."""

    side = Side.UPSTREAM
    kind = Kind.UNAVAILABLE


class AcmeError(OnetripError):
    """A certificate that was not issued.

    Attributes:
        reason: what failed, from a small closed set fit for a metric label.
        retry_after: time after which the authority wants to be asked again, s, or None.
        is_global: it would fail other domains as well.
    """

    side = Side.UPSTREAM
    kind = Kind.UNAVAILABLE

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        retry_after: float | None = None,
        is_global: bool = False,
    ):
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.is_global = is_global
