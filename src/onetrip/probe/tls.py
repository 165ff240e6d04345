"""TLS on a connection that spoke in clear before, as PostgreSQL has it, and the time of its start.

The handshake is driven here and not by the event loop, because its first exchange (ClientHello to
the first byte of the answer) is one round trip that is worth timing: it is answered by whoever the
server name leads to, which may be behind the machine that answered in clear. How many exchanges
follow depends on version and key shares, so the whole handshake tells no RTT.
"""

from __future__ import annotations

import contextlib
import ssl

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import DatabaseTls
from onetrip.net.resolve import is_address
from onetrip.net.streams import Connection
from onetrip.timing import Clock, Deadline

MAX_HANDSHAKE = 256 * 1024
"""Bytes of a server's part of a handshake; more than any chain of certificates in use."""


def make_context(mode: DatabaseTls, ca_file: str) -> ssl.SSLContext:
    """Return how a server is looked at; may read files.

    Raises:
        ProbeError: the authorities' file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode is DatabaseTls.VERIFY_FULL
    if mode not in (DatabaseTls.VERIFY_CA, DatabaseTls.VERIFY_FULL):
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise ProbeError(f"{ca_file}: cannot be used: {error}", kind=Kind.INVALID) from error
    return context


async def shake_hands(
    connection: Connection, context: ssl.SSLContext, host: str, deadline: Deadline, clock: Clock
) -> float:
    """Complete a handshake and close the session; return the time of its first exchange, s.

    Args:
        host: told to the server where it is a name (RFC 6066 forbids it for addresses).

    Raises:
        ProbeError: kind DENIED, the server or we refuse; RESET, it closed.
        UpstreamError: kind TIMEOUT.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    needs_name = context.check_hostname or not is_address(host)
    session = context.wrap_bio(incoming, outgoing, server_hostname=host if needs_name else None)
    first: float | None = None
    asked_at, size = 0.0, 0
    while not _advance(session, connection, outgoing):
        if data := outgoing.read():
            asked_at = asked_at or clock.now()
            connection.write(data)
        data = await connection.read(deadline.remaining(clock))
        if first is None and connection.answered_at is not None:
            first = connection.answered_at - asked_at
        size += len(data)
        if not data or size > MAX_HANDSHAKE:
            raise ProbeError("the server ended the TLS handshake", kind=Kind.RESET)
        incoming.write(data)
    connection.write(outgoing.read() + _goodbye(session, outgoing))
    assert first is not None
    return first


def _advance(session: ssl.SSLObject, connection: Connection, outgoing: ssl.MemoryBIO) -> bool:
    """Go on with what has arrived; True once the handshake is complete."""
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.CertificateError as error:
        connection.write(outgoing.read())  # says so to the server, too
        reason = f"its certificate is refused: {error.verify_message}"
        raise ProbeError(reason, kind=Kind.DENIED) from error
    except ssl.SSLError as error:
        connection.write(outgoing.read())
        reason = f"TLS handshake failed: {error.reason or 'unknown reason'}"
        raise ProbeError(reason, kind=Kind.DENIED) from error
    return True


def _goodbye(session: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
    """Return what ends the session (close_notify), so that the server does not complain."""
    with contextlib.suppress(ssl.SSLError):  # it wants the server's goodbye, too: nobody waits
        session.unwrap()
    return outgoing.read()
