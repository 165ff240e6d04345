"""TLS without a connection: bytes in, bytes out, and whole messages within.

For ways between nodes that bring messages but cannot be trusted with what is in them. Both sides
prove who they are as over a connection, with the same contexts. A message within is its length in
four bytes, and then itself.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from onetrip.errors import Kind, PeerError

CHUNK = 64 * 1024
"""Bytes read or written at a time."""


class Tunnel:
    """One side of a TLS connection.

    Args:
        server_name: name in the certificate of the other side; None on the server's side.
        max_message: bytes of the longest message that is taken.
        on_open: called once the other side has proved who it is; may raise `PeerError`.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        server_name: str | None,
        max_message: int,
        on_open: Callable[[ssl.SSLObject], None] = lambda tls: None,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._max_message = max_message
        self._on_open = on_open
        self._is_open = False
        self._unsent = bytearray()
        self._received = bytearray()

    def send(self, message: bytes) -> None:
        """Have a message sent, once the other side has proved who it is."""
        self._unsent += len(message).to_bytes(4, "big") + message

    def receive(self, data: bytes) -> None:
        """Take bytes of the other side."""
        self._incoming.write(data)

    def take(self, most: int) -> bytes:
        """Return at most `most` bytes for the other side."""
        return self._outgoing.read(most)

    def step(self) -> bytes | None:
        """Go on as far as what was received allows; return a message once one is whole.

        Raises:
            PeerError: the other side is not who it should be, or does not speak TLS.
        """
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._on_open(self._tls)
                self._is_open = True
            while self._unsent:
                del self._unsent[: self._tls.write(self._unsent[:CHUNK])]
            while data := self._tls.read(CHUNK):
                self._received += data
                if len(self._received) > self._max_message + 4:
                    raise PeerError(f"message exceeds limit of {self._max_message} bytes")
        except ssl.SSLWantReadError:
            return self._message()
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or error
            raise PeerError(f"TLS failed: {reason}", kind=Kind.DENIED) from error
        raise PeerError("the other side has ended", kind=Kind.RESET)

    def _message(self) -> bytes | None:
        size = int.from_bytes(self._received[:4], "big") if len(self._received) >= 4 else None
        if size is None or len(self._received) < size + 4:
            return None
        message = bytes(self._received[4 : size + 4])
        del self._received[: size + 4]
        return message
