"""A proxy for PostgreSQL that routes by the server name in TLS, as Neon's does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.certs import Pair

SSL_REQUEST = struct.pack("!II", 8, 80877103)


@dataclass(slots=True)
class SniProxy:
    """What the proxy saw.

    Attributes:
        names: server names, None for a client that told none.
        ends: how many sessions ended as TLS wants it.
        after: bytes that came inside TLS.
    """

    port: int = 0
    names: list[str | None] = field(default_factory=list)
    ends: int = 0
    after: bytes = b""


@contextlib.contextmanager
def sni_proxy(
    pair: Pair, *, delay: float = 0.0, tls_delay: float = 0.0, answer: bytes = b"S"
) -> Iterator[SniProxy]:
    """Serve on loopback; who tells no name is refused.

    Args:
        delay: of the answer to SSLRequest, s.
        tls_delay: of the answer to ClientHello, s.
    """
    found = SniProxy()

    def route(session: ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> int | None:
        found.names.append(name)
        time.sleep(tls_delay)
        return None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.sni_callback = route  # type: ignore[assignment]

    def talk(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10.0)
            if sock.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return
            time.sleep(delay)
            sock.sendall(answer)
            with context.wrap_socket(sock, server_side=True) as session:
                found.after += session.recv(100)
                found.ends += 1

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                talk(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        found.port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield found
        # The thread is not waited for: the clients' loop, which closes, may be the caller's.
        listener.shutdown(socket.SHUT_RDWR)
