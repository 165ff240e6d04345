"""Accept connections and bring each through its preamble and TLS before a protocol sees it.

`loop.create_server` hands a socket to its protocol at once, or after TLS. Here something comes
before: a PROXY protocol header stands in front of the TLS handshake, connections in the middle of
a handshake have to be counted and bounded, the context has to be the newest one at each handshake,
and a client that speaks plain HTTP to a TLS port deserves a readable answer. So this accepts by
itself, reads no byte more than the preamble has, and only then gives the socket to the loop.

The bytes in front are peeked at before they are taken (MSG_PEEK, as HAProxy's description of the
PROXY protocol suggests), so what follows them stays in the kernel for whoever reads next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from onetrip.errors import ProtocolError
from onetrip.net.dial import Receiver, as_protocol
from onetrip.net.listening import bind, port_of

ACCEPTS_PER_ROUND = 64
"""Connections accepted before the loop gets on with other work."""

YIELD_TIME = 0.001
"""Seconds for which another process may take a connection first."""

RETRY_DELAY = 0.5
"""Seconds before accepting again when file descriptors have run out."""

PEEK_SIZE = 4096 + 16
"""Preamble bytes looked at in one go; the longest preamble accepted fits."""

PICK_SIZE = 16 * 1024
"""Bytes of a TLS connection's start that are shown to `Terms.pick` at most."""

PLAIN_LINGER = 1.0
"""Seconds in which a client that spoke plain HTTP to a TLS port may read its answer."""

_HANDSHAKE = 0x16
"""First byte of a TLS connection: a handshake record (RFC 8446 section 5.1)."""

Factory = Callable[[str | None], Receiver]
"""Makes the protocol of a connection, from the client address that its preamble told, if any."""

Preamble = Callable[[bytes], tuple[int, str | None] | None]
"""Reads what a connection starts with: (its size, client address or None), or None while it is
incomplete; raises `ProtocolError`."""

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]
"""Starts a supervised task, as `tasks.Tasks.spawn` does."""

Pick = Callable[[bytes], ssl.SSLContext | bytes | int | None]
"""Looks at what a TLS connection starts with: the context to serve it with, None for the usual
one, bytes to refuse it with, or the number of bytes that must have arrived before it can tell."""

OnRefused = Callable[[str, str, str], None]
"""Told of every connection that did not come in: (address, reason, detail); reasons are a small
closed set, fit for a metric label."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How connections are taken in.

    Attributes:
        timeout: for preamble and handshake together, s.
        max_pending: connections inside these steps at once; more are closed unheard.
        context: returns the TLS context of the next connection; None serves in clear.
        preamble: reads what comes first.
        needs_preamble: whether a client at this address must send one; nobody else's is read.
        plain_reply: what somebody who speaks in clear to a TLS listener is told.
        pick: returns who looks at the start of the next TLS connection, or None.
        accepts_per_round: connections accepted before the loop gets on with other work.
        yields: whether another process should take the next connection; None where the socket is
            not shared.
    """

    timeout: float
    max_pending: int
    context: Callable[[], ssl.SSLContext] | None = None
    preamble: Preamble | None = None
    needs_preamble: Callable[[str], bool] = lambda address: False
    plain_reply: bytes = b""
    pick: Callable[[], Pick | None] = lambda: None
    accepts_per_round: int = ACCEPTS_PER_ROUND
    yields: Callable[[], bool] | None = None


class Acceptor:
    """One listening socket, or one per address of a name.

    Args:
        factory: makes the protocol of each connection that came in.
        on_refused: told of those that did not.
        spawn: starts the task of one connection.
    """

    def __init__(self, factory: Factory, terms: Terms, on_refused: OnRefused, spawn: Spawn) -> None:
        self._factory = factory
        self._terms = terms
        self._on_refused = on_refused
        self._spawn = spawn
        self._pending: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._yielded: set[socket.socket] = set()

    @property
    def pending(self) -> int:
        """Connections that are not in yet."""
        return len(self._pending)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (useful with port 0).

        Raises:
            OSError: the address cannot be bound.
        """
        return self.accept_from(await bind(host, port))

    def accept_from(self, sockets: Sequence[socket.socket]) -> int:
        """Accept from listening sockets, which are closed at the end; return their first port."""
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        for sock in self._sockets:
            loop.add_reader(sock, self._accept, sock)
        return port_of(self._sockets[0])

    def stop_listening(self) -> None:
        """Stop accepting; connections that are not in yet go on. Safe to call again."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def close(self) -> None:
        """Stop accepting, and drop connections that are not in yet; safe to call again."""
        self.stop_listening()
        for task in self._pending:
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        if self._lets_others(listener):
            return
        for _ in range(self._terms.accepts_per_round):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors: the listener stays readable, so leave it for a while.
                self._on_refused("", "exhausted", error.strerror or "")
                self._leave(listener, RETRY_DELAY)
                return
            address = str(peer[0])
            sock.setblocking(False)
            if len(self._pending) >= self._terms.max_pending:
                sock.close()
                self._on_refused(address, "overload", f"{len(self._pending)} are waiting already")
                continue
            task = self._spawn(self._welcome(sock, address), "accept")
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    def _lets_others(self, listener: socket.socket) -> bool:
        """Leave a connection to another process, once; True then."""
        yields = self._terms.yields
        if yields is None or listener in self._yielded or not yields():
            self._yielded.discard(listener)
            return False
        self._yielded.add(listener)
        self._leave(listener, YIELD_TIME)
        return True

    def _leave(self, listener: socket.socket, delay: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(delay, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._sockets:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _welcome(self, sock: socket.socket, address: str) -> None:
        is_ours = True  # until the loop's transport owns the socket
        try:
            async with asyncio.timeout(self._terms.timeout):
                told = await self._read_preamble(sock, address)
                if not await self._wants_in(sock, address):
                    return
                context = await self._pick_context(sock)
                if isinstance(context, bytes):
                    self._on_refused(address, "name", "no certificate for this name yet")
                    await _answer(sock, context)
                    return
                is_ours = False
                await self._hand_over(sock, told, context)
        except (OSError, TimeoutError, ProtocolError) as error:
            self._on_refused(address, *_explain(error))
        finally:
            if is_ours:
                sock.close()

    async def _read_preamble(self, sock: socket.socket, address: str) -> str | None:
        terms = self._terms
        if terms.preamble is None or not terms.needs_preamble(address):
            return None
        taken = b""
        while True:
            seen = await _peek(sock, PEEK_SIZE)
            found = terms.preamble(taken + seen)
            if found is not None:
                sock.recv(found[0] - len(taken))
                return found[1]
            if not seen:
                raise ProtocolError("connection ended inside its PROXY header")
            # All of it belongs to the preamble; taking it makes the next wait a wait for more.
            taken += sock.recv(len(seen))

    async def _wants_in(self, sock: socket.socket, address: str) -> bool:
        """Tell whether the client starts TLS, where that is needed; answer it if not."""
        if self._terms.context is None:
            return True
        first = await _peek(sock, 1)
        if first and first[0] == _HANDSHAKE:
            return True
        if first:  # an empty connection is a port check, no news
            self._on_refused(address, "plain", "the connection does not start with TLS")
            await _answer(sock, self._terms.plain_reply)
        return False

    async def _pick_context(self, sock: socket.socket) -> ssl.SSLContext | bytes | None:
        terms = self._terms
        if terms.context is None:
            return None
        pick = terms.pick()
        found = await _peek_for(sock, pick) if pick is not None else None
        return found or terms.context()

    async def _hand_over(
        self, sock: socket.socket, told: str | None, context: ssl.SSLContext | None
    ) -> None:
        loop, terms = asyncio.get_running_loop(), self._terms
        if context is None:
            await loop.connect_accepted_socket(as_protocol(lambda: self._factory(told)), sock)
            return
        await loop.connect_accepted_socket(
            as_protocol(lambda: self._factory(told)),
            sock,
            ssl=context,
            ssl_handshake_timeout=terms.timeout,
            ssl_shutdown_timeout=terms.timeout,
        )


async def _peek(sock: socket.socket, size: int) -> bytes:
    """Return what has arrived, leaving it in the kernel; b"" at the end of the stream."""
    while True:
        try:
            return sock.recv(size, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            pass
        await _wait_readable(sock)


async def _peek_for(sock: socket.socket, pick: Pick) -> ssl.SSLContext | bytes | None:
    """Let `pick` see ever more of what arrives until it can tell, leaving it in the kernel."""
    wanted = 1
    try:
        while True:
            seen = await _peek(sock, PICK_SIZE)
            if len(seen) < wanted:  # the stream has ended
                return None
            found = pick(seen)
            if not isinstance(found, int):
                return found
            wanted = found
            if not len(seen) < wanted <= PICK_SIZE:
                return None
            # Peeked bytes stay, so the socket would be readable at once: let it wait for more.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
            await _wait_readable(sock)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _wait_readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(sock, _note_ready, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _note_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _answer(sock: socket.socket, reply: bytes) -> None:
    """Send `reply` and end the connection so that the client can read it (RFC 9112 section 9.6)."""
    with contextlib.suppress(OSError, TimeoutError):
        sock.send(reply)
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(PLAIN_LINGER):
            while await _peek(sock, 1):
                sock.recv(64 * 1024)


def _explain(error: Exception) -> tuple[str, str]:
    """Return the reason (a label) and the detail of a refusal."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate", error.verify_message
    if isinstance(error, ssl.SSLError):
        detail = (error.reason or "handshake failed").lower().replace("_", " ")
        return ("certificate" if "certificate" in detail else "handshake"), detail
    if isinstance(error, TimeoutError):
        return "timeout", "preamble and handshake took too long"
    if isinstance(error, ProtocolError):
        return "preamble", str(error)
    return "reset", error.strerror if isinstance(error, OSError) and error.strerror else "reset"
