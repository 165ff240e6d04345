"""Asking upstream on behalf of the cache: conditions, what is kept of the answer, refreshes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.proxy.cache_fill import BodyCopy, Room, Sink
from onetrip.proxy.cache_store import CacheStore, Key, Node
from onetrip.proxy.dispatch import Dispatch
from onetrip.proxy.headers import Prepared, is_https, response_block
from onetrip.proxy.ledger import Record
from onetrip.proxy.relay import carry
from onetrip.wire.cache_rules import (
    Policy,
    Received,
    Request,
    Stored,
    condition_lines,
    confirm,
    judge,
    kept_fields,
)
from onetrip.wire.conditional import NAMES as CONDITIONS
from onetrip.wire.http1 import parse_fields
from onetrip.wire.http1_body import is_bodiless
from onetrip.wire.trace_context import new_trace_id

if TYPE_CHECKING:
    from onetrip.model.edge import CachePolicy
    from onetrip.proxy.services import Services
    from onetrip.proxy.visit import Visit
    from onetrip.wire.http1_head import ResponseHead

_TOLD = frozenset((b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"forwarded"))
_OWN = CONDITIONS | {b"range"}


@dataclass(slots=True)
class Cache:
    """What one project keeps."""

    project: str
    policy: CachePolicy
    store: CacheStore
    room: Room

    @property
    def rules(self) -> Policy:
        """The part of the policy that judging a response needs."""
        return Policy(self.policy.heuristic, self.policy.keeps_cookies)


def key_of(visit: Visit) -> Key:
    """Return what the response to a request is stored under."""
    head, client = visit.head, visit.down.client
    fields, told = head.meta.fields, b""
    if client.is_trusted:
        # The application is told these, so another value may make another response.
        told = b"\n".join(b"%b:%b" % (n.lower(), v) for n, v in fields if n.lower() in _TOLD)
    scheme = b"https" if is_https(fields, client) else b"http"
    return Key(scheme, head.authority.lower(), head.target, told)


def asking(prepared: Prepared, stored: Stored) -> Prepared:
    """Return a request's fields that ask whether a stored response is still valid.

    The client's own conditions and ranges are about what it has, not about what is stored.
    """
    lines = prepared.block.split(b"\r\n")[:-1]
    kept = [line + b"\r\n" for line in lines if line.partition(b":")[0].lower() not in _OWN]
    return replace(prepared, block=b"".join(kept) + condition_lines(stored))


def received(response: ResponseHead, record: Record, services: Services) -> Received:
    """Return a response's head as the rules read it: without the fields of its connection."""
    block = response_block(response.meta, response.version, keep_length=True)
    fields = parse_fields(block, services.settings.fields_limit + 2)
    wall = services.clock.wall()
    return Received(response.status, fields, record.sent_at, record.first_byte_at, wall)


def is_countable(response: ResponseHead, limit: int) -> bool:
    """Tell whether a body's end is certain, and its size may be within the limit."""
    size = response.meta.content_length
    if size is None:
        is_delimited = response.meta.is_chunked or response.version == b"2.0"
        return is_delimited or is_bodiless(b"GET", response.status)
    return size <= limit


def take_304(
    cache: Cache, node: Node, request: Request, head: Received
) -> tuple[Stored | None, bool]:
    """Update a stored response by a 304.

    Returns:
        What to send (None when the 304 is about another version), and whether it is still kept.
    """
    is_there = cache.store.holds(node)  # it may have been purged meanwhile
    merged = confirm(node.stored, head)
    if merged is None:
        cache.store.remove(node)
        return None, False
    updated = judge(request, merged, cache.rules)
    if updated is None:  # it may not be shared any more, but this client asked for it
        cache.store.remove(node)
        return replace(node.stored, fields=kept_fields(merged), vary=()), False
    updated = replace(updated, body=node.stored.body)
    cache.store.remove(node)
    return updated, is_there and cache.store.put(node.key, updated)


async def refresh(
    cache: Cache, node: Node, visit: Visit, request: Request, services: Services
) -> None:
    """Ask for a newer version of a stored response, without a client.

    Whatever fails leaves the stored response as it is.
    """
    record = _new_record(visit, services)
    sink, prepared = Sink(services), asking(visit.dispatch.prepared, node.stored)
    dispatch = Dispatch(sink, visit.head, prepared, None, record, services)
    copy = BodyCopy(cache.policy.max_object, cache.room)
    try:
        dispatch.begin(visit.match)
        response = await dispatch.forward()
        head = received(response, record, services)
        if response.status == 304:
            dispatch.release(response)
            take_304(cache, node, request, head)
        elif response.status < 500:
            stored = judge(request, head, cache.rules)
            if stored is None or not is_countable(response, cache.policy.max_object):
                cache.store.remove(node)
            else:
                await _copy_body(dispatch, response, sink, copy, services)
                body, is_there = copy.body(), cache.store.holds(node)
                cache.store.remove(node)
                if body is not None and is_there:
                    cache.store.put(node.key, replace(stored, body=body))
    except OnetripError as error:
        record.error = error
    finally:
        copy.close()
        node.is_refreshing = False
        dispatch.drop()
        services.ledger.note_refresh(record, services.routing.settle)


async def _copy_body(
    dispatch: Dispatch, response: ResponseHead, sink: Sink, copy: BodyCopy, services: Services
) -> None:
    up = dispatch.up
    assert up is not None
    decoder = up.body_decoder(response, b"GET", services.settings.limits)
    dispatch.response = pump = copy.pump(up, decoder, is_chunked=False)
    await carry(dispatch, sink, pump, b"")
    dispatch.release(response)


def _new_record(visit: Visit, services: Services) -> Record:
    bits: Callable[[int], int] = services.rng.getrandbits
    return Record(
        services.clock.now(),
        "",
        method=visit.head.method,
        host=visit.head.authority,
        target=visit.head.target,
        request_id=b"%024x" % bits(96),
        trace_id=new_trace_id(bits(128)),
        match=visit.match,
        edge=services.region,
    )


def changed_targets(key: Key, fields: Mapping[bytes, bytes]) -> set[tuple[bytes, bytes]]:
    """Return the places that a successful unsafe request has changed (RFC 9111 section 4.4).

    Args:
        key: of the request.
        fields: of the response, lower-case name to value.

    Returns:
        Authority and target of its own, and of what it points to on the same authority.
    """
    found = {(key.authority, key.target)}
    base = b"%b://%b%b" % (key.scheme, key.authority, key.target)
    for name in (b"location", b"content-location"):
        try:
            url = urlsplit(urljoin(base, fields.get(name, b"")))
        except ValueError:
            continue
        if url.netloc.lower() == key.authority:
            target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
            found.add((key.authority, target))
    return found


def is_failure(error: OnetripError) -> bool:
    """Tell whether stale-if-error is about it: the next hop could not be had an answer from."""
    return isinstance(error, UpstreamError) and error.kind in (
        Kind.CONNECT,
        Kind.RESET,
        Kind.TIMEOUT,
        Kind.UNAVAILABLE,
        Kind.RESIDENCY,
        Kind.OVERLOADED,
        Kind.MALFORMED,
    )
