"""Who sent a request, by its fields and its connection, and whether it may come in from there.

A mark of a node of this cluster counts only where peers have to prove who they are, once they have
to; a host that the connection's certificate does not cover was sent here by mistake.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from onetrip.errors import DownstreamError, Kind
from onetrip.net.tls import peer_regions
from onetrip.proxy.headers import Client, Prepared, find_all, host_of, prepare
from onetrip.proxy.hop import HOP_HEADER, Hop, doubt_peer

if TYPE_CHECKING:
    import asyncio

    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.settings import Network
    from onetrip.wire.http1_head import RequestHead


def find_hop(
    head: RequestHead, down: ClientChannel, services: Services
) -> tuple[Hop | None, list[bytes]]:
    """Return the valid hop mark of a request, if any, and the marks that it arrived with."""
    memo = down.memo
    if memo is not None and memo.meta is head.meta:
        marks = memo.hop_values
    else:
        marks = find_all(head.meta.fields, HOP_HEADER)
    return (services.hops.verify(marks[0]) if len(marks) == 1 else None), marks


def check_peer(hop: Hop | None, down: ClientChannel, services: Services) -> None:
    """Take a hop mark only where peers prove who they are, once they have to.

    Raises:
        DownstreamError: kind DENIED; the request claims to be a peer's, or has to be one's.
    """
    regions = down.client.regions
    if regions is None and (hop is None or not services.has_node_listener):
        return
    doubt = doubt_peer(hop, regions)
    if doubt is not None:
        services.on_peer_refused(down.client.address, *doubt)
        raise DownstreamError(doubt[1], kind=Kind.DENIED)


def prepare_fields(
    head: RequestHead, down: ClientChannel, marks: list[bytes], *, from_peer: bool
) -> Prepared:
    """Return a request's fields for the next hop: the last ones if the client repeats them.

    Raises:
        DownstreamError: kind MISDIRECTED; the connection's certificate is for other hosts.
    """
    memo = down.memo
    if (
        memo is not None
        and memo.meta is head.meta
        and memo.authority == head.authority
        and memo.minor == head.minor
        and memo.from_peer is from_peer
    ):
        return memo
    names = down.client.names
    if names is not None and not from_peer and not names.cover(host_of(head.authority)):
        raise DownstreamError(
            "the certificate of this connection is not for this host", kind=Kind.MISDIRECTED
        )
    down.memo = memo = prepare(head, down.client, marks, from_peer=from_peer)
    return memo


def client_of(
    transport: asyncio.BaseTransport,
    services: Services,
    address: str | None,
    *,
    is_for_nodes: bool = False,
) -> Client:
    """Return who a new connection is from; see `Downstream` for the arguments."""
    if address is None:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else "unknown"
    is_trusted = is_within(address, services.settings.trusted_proxies)
    tls = transport.get_extra_info("ssl_object")
    if is_for_nodes:
        return Client(address, is_trusted, b"https", regions=peer_regions(tls))
    if tls is None:
        return Client(address, is_trusted)
    return Client(address, is_trusted, b"https", tls.context.certificate.names)


def split_match(match: Match, head: RequestHead, client: Client, hop: Hop | None) -> Match:
    """Return the version of a rolled-out deployment that a request is for.

    A client is told apart by its address, behind a trusted proxy by what that tells.
    """
    told = find_all(head.meta.fields, b"x-forwarded-for") if client.is_trusted else []
    asker = told[-1].rpartition(b",")[2].strip().decode("latin-1") if told else client.address
    return match.split(asker, hop.variant if hop is not None else None)


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether an IP address belongs to one of `networks`."""
    if not networks:
        return False
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(ip in network for network in networks)
