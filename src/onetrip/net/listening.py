"""Listening sockets: bound here, or taken over from whoever opened them before."""

from __future__ import annotations

import asyncio
import socket

BACKLOG = 1024


async def bind(host: str, port: int) -> list[socket.socket]:
    """Listen at every address of a name (with port 0, a port of its own each).

    Raises:
        OSError: an address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(_listen(family, address))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def adopt(descriptor: int) -> socket.socket:
    """Return the listening TCP socket behind an inherited descriptor, which it then owns.

    Raises:
        OSError: the descriptor is none; it was left alone.
    """
    sock = socket.socket(fileno=descriptor)
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise OSError(f"descriptor {descriptor} is not a listening TCP socket")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def port_of(sock: socket.socket) -> int:
    """Return the port a socket listens on."""
    return int(sock.getsockname()[1])


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it a client that
    # delays its acknowledgements waits 40 ms for the second of two small writes.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
