"""The delaying relay: TCP between loopback addresses, as slow as the real distance.

The relay listens on the far address of every component and forwards to its near one. The delay
of a connection follows from the region of its source address and the region of its target; each
direction waits half an RTT. The target is connected half an RTT after the accept, so a server
that speaks first is heard one RTT after the connect, as on a real path.

What it cannot do: the kernel completes the client's TCP handshake before a relay hears of it, so a
connect costs nothing here where it costs one RTT on a WAN. Connection set-up is one RTT cheaper
than in reality, which *understates* what warm connections and fewer trips save. A probe that times
a bare TCP connect measures nothing in the lab; probes that wait for a reply are right.

A cut path holds its bytes until it heals, as TCP does when packets are lost: connections stall and
do not break.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import selectors
import socket
import struct
from collections.abc import Callable
from typing import cast

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip_lab.delay import DelayQueue, Links, Mark

MAX_CONNECTIONS = 4096
"""Connections through one relay; further ones are reset."""

CONNECT_TIMEOUT = 5.0
"""Bound on reaching a target, s; it is on this machine."""


class PreciseSelector(selectors.EpollSelector):
    """An epoll selector whose timeouts are good to about 0.1 ms.

    `epoll_wait` counts whole milliseconds, which would double an RTT of 0.5 ms. The descriptor
    of an epoll set can itself be waited for with `select`, whose timeout counts microseconds.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events at most `timeout` s; see `selectors.BaseSelector.select`."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        with contextlib.suppress(InterruptedError):
            select.select([self.fileno()], [], [], timeout)
        return super().select(0)


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are good enough for the relay."""
    return asyncio.SelectorEventLoop(PreciseSelector())


def _reset(transport: asyncio.Transport) -> None:
    """Close at once with a RST: `abort` alone ends with a FIN, which looks like a proper end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Direction:
    """One way through one connection: fed by the source leg, released to the sink leg."""

    def __init__(self, links: Links, source_region: str, sink_region: str) -> None:
        self._links = links
        self._regions = (source_region, sink_region)
        self._queue = DelayQueue()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._is_blocked = False
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.is_done = False
        self.on_done: Callable[[], None] = lambda: None

    def feed(self, item: bytes | Mark) -> None:
        if self.is_done:
            return
        self._queue.push(item, self._loop.time() + self._links.one_way(*self._regions))
        if self._queue.is_full and self.source is not None:
            self.source.pause_reading()
        self.arm()

    def block(self) -> None:
        self._is_blocked = True

    def unblock(self) -> None:
        self._is_blocked = False
        self.arm()

    def arm(self) -> None:
        """Set the one timer for the head, unless it cannot be delivered now."""
        due = self._queue.next_due
        if due is None or self._timer or self._is_blocked or self.sink is None:
            return
        if not self._links.is_cut(*self._regions):
            self._timer = self._loop.call_at(due, self._release)

    def discard(self) -> None:
        """Nobody is left to deliver to."""
        self.is_done = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        self._timer = None
        if self._links.is_cut(*self._regions):
            return
        now = self._loop.time()
        while not self._is_blocked and (item := self._queue.pop(now)) is not None:
            self._deliver(item)
        if self.source is not None and self._queue.has_room and not self.source.is_closing():
            self.source.resume_reading()
        self.arm()

    def _deliver(self, item: bytes | Mark) -> None:
        assert self.sink is not None
        if item is Mark.ABORT:
            _reset(self.sink)
        elif item is Mark.EOF:
            self.is_done = True
            if self.sink.can_write_eof() and not self.sink.is_closing():
                with contextlib.suppress(OSError):
                    self.sink.write_eof()
            self.on_done()
        elif not isinstance(item, Mark):
            self.sink.write(item)


class _Leg(asyncio.Protocol):
    """One of a connection's two sockets."""

    def __init__(self, reads_into: _Direction, written_by: _Direction, owner: _Connection) -> None:
        self._reads_into = reads_into
        self._written_by = written_by
        self._owner = owner
        self._has_eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        self._reads_into.source = self._written_by.sink = stream
        self._owner.legs.add(self)
        self._written_by.arm()

    def data_received(self, data: bytes) -> None:
        self._reads_into.feed(data)

    def eof_received(self) -> bool:
        self._has_eof = True
        self._reads_into.feed(Mark.EOF)
        return True  # keep the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        self._written_by.discard()
        if exc is not None or not self._has_eof:
            self._reads_into.feed(Mark.ABORT)
        self._reads_into.source = None
        self._owner.leg_lost(self)

    def pause_writing(self) -> None:
        self._written_by.block()

    def resume_writing(self) -> None:
        self._written_by.unblock()


class _Connection:
    """One client connection, and its continuation to the target."""

    def __init__(self, relay: Relay, source: str, region: str, target: Endpoint) -> None:
        links = relay.links
        self.legs: set[_Leg] = set()
        self.regions = (source, region)
        self._relay = relay
        self._target = target
        self._outward = _Direction(links, source, region)
        self._inward = _Direction(links, region, source)
        self._outward.on_done = self._inward.on_done = self._close_when_done
        self._task: asyncio.Task[None] | None = None

    def accept(self, transport: asyncio.Transport) -> None:
        leg = _Leg(self._outward, self._inward, self)
        transport.set_protocol(leg)
        leg.connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        await asyncio.sleep(self._relay.links.one_way(*self.regions))
        while self._relay.links.is_cut(*self.regions):
            await self._relay.changed.wait()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().create_connection(
                    lambda: _Leg(self._inward, self._outward, self),
                    self._target.host,
                    self._target.port,
                )
        except (OSError, TimeoutError):
            self._inward.feed(Mark.ABORT)

    def _close_when_done(self) -> None:
        if self._outward.is_done and self._inward.is_done:
            self._close(abort=False)

    def leg_lost(self, leg: _Leg) -> None:
        self.legs.discard(leg)
        if self._outward.sink is None and self._task is not None:
            self._task.cancel()  # the client went away before the target was reached
        if not self.legs:
            self._outward.discard()
            self._inward.discard()
            self._relay.forget(self)

    def poke(self) -> None:
        """A path changed: what was held may flow again."""
        self._outward.arm()
        self._inward.arm()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._close(abort=True)

    def _close(self, abort: bool) -> None:
        for transport in (self._outward.sink, self._inward.sink):
            if transport is not None and abort:
                _reset(transport)
            elif transport is not None:
                transport.close()


class _Acceptor(asyncio.Protocol):
    """Takes a new connection and hands it over at once."""

    def __init__(self, on_accept: Callable[[asyncio.Transport], None]) -> None:
        self._on_accept = on_accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._on_accept(cast(asyncio.Transport, transport))


class Relay:
    """All paths of the lab: one listener for each far address.

    Args:
        links: delays and cuts; change them through this relay so that held bytes are woken.
        region_of: region of a connection's source address; None counts as the target's own
            region (a person's browser or command line).
    """

    def __init__(self, links: Links, region_of: Callable[[str], str | None]) -> None:
        self.links = links
        self.changed = asyncio.Event()
        self._region_of = region_of
        self._connections: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []

    def __len__(self) -> int:
        return len(self._connections)

    async def listen(self, far: Endpoint, near: Endpoint, region: str) -> Endpoint:
        """Relay `far` to `near`, which lies in `region`; port 0 takes a free one.

        Returns:
            The endpoint listened on.

        Raises:
            ConfigError: the address is taken.
        """
        loop = asyncio.get_running_loop()

        def accept(transport: asyncio.Transport) -> None:
            self._accept(transport, near, region)

        try:
            server = await loop.create_server(lambda: _Acceptor(accept), far.host, far.port)
        except OSError as error:
            raise ConfigError(f"relay cannot listen on {far}: {error.strerror}") from error
        self._servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        return Endpoint(host, port)

    def set_rtt(self, a: str, b: str, rtt: float) -> None:
        """Change the RTT between two regions, s, for what is sent from now on."""
        self.links.set_rtt(a, b, rtt)

    def cut(self, a: str, b: str) -> None:
        """Stall everything between two regions."""
        self.links.cut(a, b)

    def heal(self, a: str, b: str) -> None:
        """Undo `cut`; what was held flows at once."""
        self.links.heal(a, b)
        self.changed.set()
        self.changed = asyncio.Event()
        for connection in self._connections:
            connection.poke()

    def forget(self, connection: _Connection) -> None:
        """Drop a connection that has ended."""
        self._connections.discard(connection)

    def reset_all(self) -> None:
        """Reset every connection, as a rebooting router with state would."""
        for connection in list(self._connections):
            connection.abort()

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        for server in self._servers:
            server.close()
        self.reset_all()
        # Transports report their end one loop iteration after `abort`.
        for _ in range(3):
            await asyncio.sleep(0)

    def _accept(self, transport: asyncio.Transport, near: Endpoint, region: str) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            _reset(transport)
            return
        peer = transport.get_extra_info("peername")
        source = (self._region_of(peer[0]) if peer else None) or region
        connection = _Connection(self, source, region, near)
        self._connections.add(connection)
        connection.accept(transport)
