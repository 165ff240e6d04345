"""A knock times the handshake, and the program behind the port never sees it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

import pytest

from onetrip.errors import Kind, UpstreamError
from onetrip.net.knock import TcpKnock
from onetrip.timing import MonotonicClock
from support.waits import BOUND

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_QUICKACK of Linux")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as sock:
        sock.setblocking(False)
        yield sock


@linux_only
async def test_knocked_server_accepts_nothing(listener: socket.socket) -> None:
    knock = TcpKnock(MonotonicClock())
    port = listener.getsockname()[1]
    for _ in range(20):
        assert 0 < await knock("127.0.0.1", port, timeout=BOUND) < BOUND
    await asyncio.sleep(0.02)
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_knock_comes_from_the_source_address(listener: socket.socket) -> None:
    knock = TcpKnock(MonotonicClock(), source_address="127.0.0.9")
    assert await knock("127.0.0.1", listener.getsockname()[1], timeout=BOUND) > 0


async def test_closed_port_is_a_connect_failure(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(UpstreamError, match=f"127.0.0.1:{port} failed: Connection refused") as e:
        await TcpKnock(MonotonicClock())("127.0.0.1", port, timeout=BOUND)
    assert e.value.kind is Kind.CONNECT


async def test_foreign_source_address_is_a_connect_failure(listener: socket.socket) -> None:
    knock = TcpKnock(MonotonicClock(), source_address="192.0.2.1")
    with pytest.raises(UpstreamError, match="failed: ") as caught:
        await knock("127.0.0.1", listener.getsockname()[1], timeout=BOUND)
    assert caught.value.kind is Kind.CONNECT


@linux_only
async def test_handshake_that_is_not_answered_is_a_timeout() -> None:
    # Linux drops a SYN for a listener whose queue is full.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as kept:
        for _ in range(3):
            sock = kept.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        await asyncio.sleep(0.02)
        with pytest.raises(UpstreamError, match=r"exceeds 0.05 s") as caught:
            await TcpKnock(MonotonicClock())("127.0.0.1", full.getsockname()[1], timeout=0.05)
    assert caught.value.kind is Kind.TIMEOUT
