"""What a node answers itself, before any route: pings, and proofs of control over a name.

An ACME authority asks for a proof over HTTP (RFC 8555 section 8.3) or in a TLS handshake
(RFC 8737). Whoever orders certificates puts the answers here and takes them out again; a request
or handshake costs one look into a dictionary, and one into an empty one as long as nobody orders.
"""

from __future__ import annotations

import ssl

from onetrip.errors import ProtocolError
from onetrip.net.accept import Pick
from onetrip.net.tls import CHALLENGE_PROTOCOL
from onetrip.wire.client_hello import read_client_hello

PING_TARGET = b"/.well-known/onetrip/ping"
"""Answered without routes: what peers measure."""

CHALLENGE_PREFIX = b"/.well-known/acme-challenge/"

_PROTOCOLS = (CHALLENGE_PROTOCOL.encode(),)


class Challenges:
    """The answers of one node; changed live.

    Attributes:
        answers: by request target: status line with fields, and body.
    """

    def __init__(self) -> None:
        self.answers = {PING_TARGET: (b"HTTP/1.1 204 No Content\r\n", b"")}
        self._contexts: dict[str, ssl.SSLContext] = {}

    def answer_http(self, token: str, body: str | None) -> None:
        """Answer for `token` with `body` from now on; None ends that."""
        target = CHALLENGE_PREFIX + token.encode()
        if body is None:
            self.answers.pop(target, None)
            return
        content = body.encode()
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Cache-Control: no-store\r\nContent-Length: %d\r\n" % len(content)
        )
        self.answers[target] = (head, content)

    def answer_tls(self, name: str, context: ssl.SSLContext | None) -> None:
        """Serve a validation of `name` with `context` from now on; None ends that."""
        if context is None:
            self._contexts.pop(name, None)
        else:
            self._contexts[name] = context

    def watch(self) -> Pick | None:
        """Return who has to look at a TLS connection's start now, or None."""
        return self._pick if self._contexts else None

    def _pick(self, data: bytes) -> ssl.SSLContext | int | None:
        try:
            hello = read_client_hello(data)
        except ProtocolError:
            return None  # OpenSSL refuses it with the right alert
        if isinstance(hello, int):
            return hello
        if hello.protocols != _PROTOCOLS or hello.server_name is None:
            return None
        return self._contexts.get(hello.server_name)
