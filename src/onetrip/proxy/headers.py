"""Header fields between the two sides: what is removed, what is replaced, what is added.

Hop-by-hop fields end here (RFC 9110 section 7.6.1), framing is written anew for the next hop, and
what tells an application about its client (`X-Forwarded-*`, `Forwarded`, `X-Request-Id`) is taken
from a trusted proxy only. A name that differs from one of ours by underscores is removed as well:
CGI-like servers fold `X_Forwarded_For` and `X-Forwarded-For` into one variable.

The blocks made here depend on little that changes between the requests of one connection, so the
caller keeps the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

from onetrip.errors import DownstreamError, Kind
from onetrip.net.names import Names
from onetrip.wire.http1 import Fields
from onetrip.wire.http1_head import MessageMeta, RequestHead, ResponseHead
from onetrip.wire.trace_context import Trace, read_trace

PSEUDONYM = b"onetrip"
"""Our name in Via; counting it finds loops without naming nodes to the outside."""

MAX_HOPS = 8
"""Times a request may pass through nodes; a sane one passes two."""

HTTPS_PORT = 443
"""Left out of URLs (RFC 9110 section 4.2.2)."""

MAX_REQUEST_ID = 128

MAX_FORWARDS_DIGITS = 9
"""Longest number of Max-Forwards that is understood."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
_TRACE = frozenset((b"traceparent", b"tracestate"))
_REWRITTEN = _HOP_BY_HOP | {b"host", b"content-length", b"via", b"x-request-id"} | _TRACE
_CLIENT_FACTS = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-server",
        b"x-forwarded",
        b"x-real-ip",
    )
)
_EXTENDED_FACTS = frozenset((b"forwarded", b"x-forwarded-for"))
_RESPONSE_REMOVED = _HOP_BY_HOP | {b"content-length", b"via"}
_FOR_HOPS = frozenset((b"OPTIONS", b"TRACE"))
_PROTECTED = frozenset((b"host", b"content-length", b"cookie", b"authorization", b"via"))
_OURS = b"onetrip-"
_BODY10 = frozenset((b"POST", b"PUT", b"PATCH"))
_ID_BYTES = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:=+/@")


@dataclass(frozen=True, slots=True)
class Client:
    """Who a connection is from.

    Attributes:
        address: IP address as text.
        is_trusted: a proxy whose word about *its* client is believed.
        scheme: how the client reached us, b"http" or b"https".
        names: hosts of the certificate it was shown; None without TLS, and for peers.
        regions: a peer that came in by the listener for nodes: regions its certificate names.
    """

    address: str
    is_trusted: bool
    scheme: bytes = b"http"
    names: Names | None = None
    regions: frozenset[str] | None = None
    is_http2: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's fields made ready for the next hop; the same for requests that repeat them.

    Attributes:
        block: field lines for the next hop, except X-Request-Id, traceparent and the hop mark.
        hop_values: hop marks it arrived with, valid or not.
        request_id: the X-Request-Id to keep, or None to make one.
        trace: the trace it belongs to, or None to begin one.
        hops: how often the request passed through a node before.
        from_peer: a node of this cluster forwarded it.
        upgrades: it asks for another protocol, and the next hop is asked for it.
    """

    meta: MessageMeta
    authority: bytes
    minor: int
    block: bytes
    hop_values: list[bytes]
    request_id: bytes | None
    trace: Trace | None
    hops: int
    from_peer: bool
    upgrades: bool


def prepare(
    head: RequestHead, client: Client, hop_values: list[bytes], *, from_peer: bool
) -> Prepared:
    """Return the fields of `head` for the next hop."""
    meta = head.meta
    is_believed = from_peer or client.is_trusted
    upgrades = wants_upgrade(meta, head.minor)
    trace = read_trace(find_all(meta.fields, b"traceparent"), find_all(meta.fields, b"tracestate"))
    block = _request_block(head, client, from_peer, is_believed)
    if trace is not None and trace.state:
        block += b"tracestate: %b\r\n" % trace.state
    if upgrades:
        block += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % meta.upgrade
    return Prepared(
        meta,
        head.authority,
        head.minor,
        block,
        hop_values,
        request_id(meta.fields) if is_believed else None,
        trace,
        count_hops(meta.fields),
        from_peer,
        upgrades,
    )


def find_all(fields: Fields, name: bytes) -> list[bytes]:
    """Return the values of every field called `name` (lower-case), in order."""
    return [v.rstrip(b" \t") for n, v in fields if n.lower() == name]


def request_id(fields: Fields) -> bytes | None:
    """Return a usable X-Request-Id, or None; anything odd is replaced by our own."""
    values = find_all(fields, b"x-request-id")
    if (
        len(values) == 1
        and 0 < len(values[0]) <= MAX_REQUEST_ID
        and _ID_BYTES.issuperset(values[0])
    ):
        return values[0]
    return None


def host_of(authority: bytes) -> str:
    """Return the host of a valid authority, lower-case, without port, brackets or final dot."""
    host = authority.decode("latin-1").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_https(fields: Fields, client: Client) -> bool:
    """Tell whether the client spoke TLS, to us or to the trusted proxy before us."""
    if client.scheme == b"https":
        return True
    told = find_all(fields, b"x-forwarded-proto") if client.is_trusted else []
    return [value.lower() for value in told] == [b"https"]


def https_url(head: RequestHead, port: int) -> bytes:
    """Return the URL of the same resource over TLS at another port."""
    host = host_of(head.authority).encode("latin-1")
    authority = b"[%b]" % host if b":" in host else host
    if port != HTTPS_PORT:
        authority += b":%d" % port
    return b"https://%b%b" % (authority, b"" if head.target == b"*" else head.target)


def forwards_left(value: bytes) -> int | None:
    """Return how often a request may still be forwarded, by its Max-Forwards; None if it is odd."""
    digits = value.strip(b" \t")
    return int(digits) if digits.isdigit() and len(digits) <= MAX_FORWARDS_DIGITS else None


def count_hops(fields: Fields) -> int:
    """Return how often a request passed through a node, by its Via."""
    members = b",".join(find_all(fields, b"via")).split(b",")
    return sum(1 for member in members if member.split()[1:2] == [PSEUDONYM])


def wants_upgrade(meta: MessageMeta, minor: int) -> bool:
    """Tell whether a request asks to switch protocols in a way we pass on.

    HTTP/2 in clear is not passed on: inside such a tunnel requests reach the application that no
    routing rule has seen. Nor is an offer that comes with a body: some servers take the body for
    the first bytes of the tunnel (httptools skips it), and would read a request in it.
    """
    if not meta.upgrade or minor == 0 or b"upgrade" not in meta.connection:
        return False
    if meta.is_chunked or meta.content_length:
        return False
    protocols = [p.partition(b"/")[0].strip() for p in meta.upgrade.lower().split(b",")]
    return b"h2c" not in protocols and b"h2" not in protocols and b"http" not in protocols


def check_limits(head: RequestHead, hops: int, body_limit: int | None) -> None:
    """Refuse a request that went in circles, whose body has no known end, or is too large.

    Args:
        hops: times it passed through a node before.

    Raises:
        DownstreamError: kind LOOP, LENGTH_REQUIRED, BODY_TOO_LARGE, or UNSUPPORTED for a request
            that may go no further and asks about this node itself (RFC 9110 section 7.6.2).
    """
    if head.method in _FOR_HOPS and any(
        forwards_left(value) == 0 for value in find_all(head.meta.fields, b"max-forwards")
    ):
        raise DownstreamError(
            "this node answers no such request about itself", kind=Kind.UNSUPPORTED
        )
    if hops >= MAX_HOPS:
        raise DownstreamError(f"request passed {hops} nodes, limit is {MAX_HOPS}", kind=Kind.LOOP)
    size = head.meta.content_length
    if size is None and head.minor == 0 and head.method in _BODY10:
        raise DownstreamError(
            "HTTP/1.0 request with a body needs Content-Length", kind=Kind.LENGTH_REQUIRED
        )
    if body_limit is not None and size is not None and size > body_limit:
        raise DownstreamError(
            f"body of {size} bytes exceeds limit of {body_limit}", kind=Kind.BODY_TOO_LARGE
        )


def _request_block(head: RequestHead, client: Client, from_peer: bool, is_believed: bool) -> bytes:
    meta, authority = head.meta, head.authority
    removed = _removed(meta.connection)
    if not is_believed:
        removed |= _CLIENT_FACTS
    elif not from_peer:
        removed |= _EXTENDED_FACTS
    if head.minor == 0:
        removed |= {b"expect"}  # RFC 9110 section 10.1.1
    lines: list[bytes] = [b"Host: %b\r\n" % authority] if authority else []
    for field in meta.fields:
        key = field[0].lower()
        if b"_" in key and _imitates(key.replace(b"_", b"-"), removed):
            continue
        if key == b"max-forwards" and (left := forwards_left(field[1])):
            lines.append(b"%b: %d\r\n" % (field[0], left - 1))
        elif key not in removed and not key.startswith(_OURS):
            lines.append(b"%b: %b\r\n" % field)
    lines.append(_via(meta.fields, b"2.0" if client.is_http2 else b"1.%d" % head.minor))
    if not from_peer:
        lines.append(_client_facts(meta.fields if is_believed else [], authority, client))
    lines.append(_framing(meta))
    return b"".join(lines)


def response_block(meta: MessageMeta, version: bytes, *, keep_length: bool) -> bytes:
    """Return a response's field lines for the client, without those we add.

    Args:
        version: of HTTP that the upstream spoke.
        keep_length: Content-Length stays; it never does beside the chunked coding.
    """
    removed = _RESPONSE_REMOVED
    if meta.connection:
        removed = removed.union([o for o in meta.connection if o not in _PROTECTED])
    lines: list[bytes] = []
    for field in meta.fields:
        key = field[0].lower()
        if key not in removed and not key.startswith(_OURS):
            lines.append(b"%b: %b\r\n" % field)
    if keep_length and meta.content_length is not None:
        lines.append(b"Content-Length: %d\r\n" % meta.content_length)
    lines.append(_via(meta.fields, version))
    return b"".join(lines)


def switching_head(response: ResponseHead, lines: bytes) -> bytes:
    """Return the head of a 101 for the client; `lines` are fields that we add."""
    block = response_block(response.meta, response.version, keep_length=False)
    return b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n%b\r\n" % (
        response.reason,
        block,
        response.meta.upgrade,
        lines,
    )


def _removed(connection: list[bytes]) -> frozenset[bytes]:
    """Return the names to leave out: ours, and those the sender named in Connection."""
    named = [option for option in connection if option not in _PROTECTED]
    return _REWRITTEN.union(named) if named else _REWRITTEN


def _imitates(dashed: bytes, removed: frozenset[bytes]) -> bool:
    """Tell whether an underscored name would be one we write or remove, once folded."""
    return dashed in removed or dashed in _CLIENT_FACTS or dashed.startswith(_OURS)


def _via(fields: Fields, version: bytes) -> bytes:
    earlier = find_all(fields, b"via")
    return b"Via: %b%b %b\r\n" % (
        b"".join([value + b", " for value in earlier]),
        version,
        PSEUDONYM,
    )


def _client_facts(believed: Fields, authority: bytes, client: Client) -> bytes:
    address = client.address.encode("ascii", "replace")
    chain = b"".join([v + b", " for v in find_all(believed, b"x-forwarded-for")])
    elements = b"".join([v + b", " for v in find_all(believed, b"forwarded")])
    node = b'"[%b]"' % address if b":" in address else address
    lines = b'X-Forwarded-For: %b%b\r\nForwarded: %bfor=%b;host="%b";proto=%b\r\n' % (
        chain,
        address,
        elements,
        node,
        authority,
        client.scheme,
    )
    if not find_all(believed, b"x-forwarded-proto"):
        lines += b"X-Forwarded-Proto: %b\r\n" % client.scheme
    if not find_all(believed, b"x-forwarded-host") and authority:
        lines += b"X-Forwarded-Host: %b\r\n" % authority
    return lines


def _framing(meta: MessageMeta) -> bytes:
    if meta.is_chunked:
        return b"Transfer-Encoding: chunked\r\n"
    if meta.content_length is not None:
        return b"Content-Length: %d\r\n" % meta.content_length
    return b""
