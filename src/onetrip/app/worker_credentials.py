"""Certificates on their way to the workers: as PEM, because a TLS context stays in its process.

A worker gets what its node has read and checked. It does not read the files itself: they could
have changed since, or be out of its reach.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from onetrip.app.worker_messages import Credentials, Pair
from onetrip.net.tls import (
    Certificate,
    CertificateSet,
    PeerContexts,
    ServerContext,
    load_certificate,
    load_peer_contexts,
)

if TYPE_CHECKING:
    from onetrip.app.config import Settings  # reads YAML, which a worker does not

NO_CREDENTIALS = Credentials([], "1.2", (), (), None, (), None)


def credentials_of(
    settings: Settings, issued: Sequence[ServerContext], *, has_tls: bool
) -> tuple[Credentials, list[Certificate]]:
    """Return what workers get, and the certificates that clients can be served.

    Args:
        issued: those that were ordered.
        has_tls: clients are served over TLS.
    """
    peers, terms = settings.peer_contexts, settings.tls_terms
    contexts: list[ServerContext] = []
    awaited: tuple[str, ...] = ()
    if settings.certificates is not None and has_tls:
        awaited = tuple(settings.acme.domains) if settings.acme is not None else ()
        contexts = [*settings.certificates.contexts, *issued]
    credentials = Credentials(
        [Pair(c.pem[0], c.pem[1], c.certificate.names.hosts) for c in contexts],
        terms.min_version,
        tuple(terms.protocols),
        awaited,
        (peers.server.pem[0], peers.server.pem[1], peers.server.pem[2]) if peers else None,
        peers.protocols if peers else (),
        settings.https_port if has_tls else None,
    )
    return credentials, [context.certificate for context in contexts]


def contexts_of(told: Credentials, region: str) -> tuple[CertificateSet, PeerContexts | None]:
    """Return what a worker serves, and how it talks to peers.

    Raises:
        ConfigError: the files were good for the node, and are not here.
    """
    contexts = [_context_of(pair, told.min_version, told.protocols) for pair in told.pairs]
    peers = None
    if told.peer is not None:
        peers = _peer_contexts_of(told.peer, region, told.peer_protocols)
    return CertificateSet(contexts, told.awaited), peers


def _context_of(pair: Pair, min_version: str, protocols: tuple[str, ...]) -> ServerContext:
    with ExitStack() as stack:
        cert, key = (_as_file(data, stack) for data in (pair.cert, pair.key))
        return load_certificate(
            cert, key, hosts=pair.hosts, min_version=min_version, protocols=protocols
        )


def _peer_contexts_of(
    peer: tuple[bytes, bytes, bytes], region: str, protocols: tuple[str, ...]
) -> PeerContexts:
    with ExitStack() as stack:
        ca, cert, key = (_as_file(data, stack) for data in peer)
        return load_peer_contexts(ca, cert, key, region, protocols)


def _as_file(data: bytes, stack: ExitStack) -> Path:
    """Return a path to a file in memory: OpenSSL reads files only, and keys belong on no disk."""
    descriptor = os.memfd_create("onetrip")
    stack.callback(os.close, descriptor)
    os.write(descriptor, data)
    return Path(f"/proc/self/fd/{descriptor}")
