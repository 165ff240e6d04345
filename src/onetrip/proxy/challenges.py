"""What a node answers itself, before any route: pings, and proofs of control over a name.

An ACME authority asks for a proof over HTTP (RFC 8555 section 8.3) or in a TLS handshake
(RFC 8737). Whoever orders certificates puts the answers here and takes them out again; a request
or handshake costs one look into a dictionary, and one into an empty one as long as nobody orders.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable

from onetrip.errors import ProtocolError
from onetrip.net.accept import Pick
from onetrip.wire.client_hello import read_client_hello

PING_TARGET = b"/.well-known/onetrip/ping"
"""Answered without routes: what peers measure."""

CHALLENGE_PROTOCOL = "acme-tls/1"
"""ALPN name of a TLS-ALPN-01 validation (RFC 8737 section 6.2)."""

CHALLENGE_PREFIX = b"/.well-known/acme-challenge/"

_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
"""A fatal alert (RFC 8446 section 6.2). The event loop would drop the one that OpenSSL makes, and
the client be left with a reset that explains nothing."""

_PROTOCOLS = (CHALLENGE_PROTOCOL.encode(),)


class Challenges:
    """The answers of one node; changed live.

    Attributes:
        answers: by request target: status line with fields, and body.
        refuses: whether there is no certificate for a name yet; None while there is one for all.
    """

    def __init__(self) -> None:
        self.answers = {PING_TARGET: (b"HTTP/1.1 204 No Content\r\n", b"")}
        self.refuses: Callable[[str | None], bool] | None = None
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

    def answer_tls(self, name: str, pair: bytes | None) -> None:
        """Serve a validation of `name` with key and certificate, PEM, from now on; None ends that.

        Raises:
            ssl.SSLError: they cannot be used.
        """
        if pair is None:
            self._contexts.pop(name, None)
        else:
            self._contexts[name] = _context_of(pair)

    def watch(self) -> Pick | None:
        """Return who has to look at a TLS connection's start now, or None."""
        return self._pick if self._contexts or self.refuses is not None else None

    def _pick(self, data: bytes) -> ssl.SSLContext | bytes | int | None:
        try:
            hello = read_client_hello(data)
        except ProtocolError:
            return None  # OpenSSL refuses it with the right alert
        if isinstance(hello, int):
            return hello
        name = hello.server_name
        if hello.protocols == _PROTOCOLS and name in self._contexts:
            return self._contexts[name]
        return _UNRECOGNIZED_NAME if self.refuses is not None and self.refuses(name) else None


def _context_of(pair: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([CHALLENGE_PROTOCOL])
    with tempfile.NamedTemporaryFile() as file:  # OpenSSL reads files only; mode 0600
        file.write(pair)
        file.flush()
        context.load_cert_chain(file.name)
    return context
