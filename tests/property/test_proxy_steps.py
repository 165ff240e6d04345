"""Exchanges carried on inside callbacks and in the connection's task are the same exchanges.

Random requests, replies, splits, interleavings and faults; whatever the proxy tells the world has
to be equal byte for byte: to the client, to the instances, in the access log, the metrics and the
observations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from onetrip.proxy.settings import ProxySettings
from support.proxy_stage import Stage

REQUESTS = [
    b"GET /users/42 HTTP/1.1\r\nHost: shop.test\r\n\r\n",
    b"GET /users/42 HTTP/1.1\r\nHost: shop.test\r\n\r\n",  # most requests repeat the last one
    b"GET /orders?page=2 HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
    b"HEAD /users/7 HTTP/1.1\r\nHost: shop.test\r\n\r\n",
    b"DELETE /carts/1 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n",
    b"POST /orders HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /orders HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    b"PUT /o HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"GET /old HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /.well-known/onetrip/ping HTTP/1.1\r\nHost: any.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"NONSENSE\r\n\r\n",
]
REPLIES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nServer-Timing: db;dur=3;trips=2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 20000\r\n\r\n" + b"e" * 20000,
    b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nmore than one byte",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"garbage\r\n\r\n",
]
FAULTS = ["client ends", "client lost", "client stops reading", "client reads on"]
FAULTS += ["upstream ends", "upstream lost"]
WAITS = [0.1, 4.0, 12.0, 40.0, 90.0]  # s


@st.composite
def splits(draw: st.DrawFn, messages: list[bytes]) -> list[bytes]:
    """Messages one after the other, cut anywhere or nowhere; a usual one comes first, whole."""
    usual = st.just(messages[0])
    stream = draw(st.lists(st.one_of(usual, st.sampled_from(messages)), min_size=1, max_size=5))
    if draw(st.booleans()):
        return [messages[0], *stream]
    data = b"".join(stream)
    cuts = sorted(draw(st.lists(st.integers(1, len(data)), max_size=6)))
    ends = zip([0, *cuts], [*cuts, len(data)], strict=True)
    return [messages[0], *(data[a:b] for a, b in ends if a < b)]


ACTIONS = st.lists(
    st.one_of(
        st.sampled_from(["client", "upstream"]),
        st.sampled_from(["client", "upstream"]),
        st.sampled_from(FAULTS),
        st.sampled_from(WAITS),
    ),
    max_size=12,
)


def act(stage: Stage, action: str | float, sent: Iterator[bytes], replies: Iterator[bytes]) -> None:
    client, busy = stage.client, stage.busy
    if isinstance(action, float):
        stage.sweep(action)
    elif action == "upstream" or action.startswith("upstream "):
        if busy is None:
            return
        if action == "upstream":
            if data := next(replies, b""):
                busy[0].data_received(data)
        elif action == "upstream ends":
            busy[0].eof_received()
        else:
            busy[0].connection_lost(ConnectionResetError())
    elif client.is_lost or (stage.transport.closed and action != "client lost"):
        return
    elif action == "client":
        if data := next(sent, b""):
            client.data_received(data)
    elif action == "client ends":
        client.eof_received()
    elif action == "client lost":
        client.connection_lost(ConnectionResetError())
    elif action == "client stops reading":
        stage.transport.stop_reading(client)
    else:
        stage.transport.read_on()


async def play(
    script: list[str | float], requests: list[bytes], answers: list[bytes], *, in_task: bool
) -> dict[str, Any]:
    stage = Stage(ProxySettings(max_requests=6), in_task=in_task)
    sent, replies = iter(requests), iter(answers)
    await stage.settle()
    # The first exchange opens a connection, for the next ones to use; after the script, whatever
    # was not sent yet arrives in turn.
    for action in ["client", "upstream", "client", *script, *["client", "upstream"] * 10]:
        act(stage, action, sent, replies)
        await stage.settle()
    await stage.end()
    return stage.outcome()


@settings(max_examples=250, deadline=None)
@given(ACTIONS, splits(REQUESTS), splits(REPLIES))
def test_steps_and_task_carry_out_the_same_exchanges(
    script: list[str | float], requests: list[bytes], answers: list[bytes]
) -> None:
    by_steps = asyncio.run(play(script, requests, answers, in_task=False))
    in_task = asyncio.run(play(script, requests, answers, in_task=True))
    assert by_steps == in_task
    event(f"{len(by_steps['lines'])} exchanges")
    assert by_steps["open"] == 0


def test_the_usual_exchange_wakes_no_task() -> None:
    async def serve() -> tuple[int, bytes]:
        stage = Stage(ProxySettings(), in_task=False)
        await stage.settle()
        for _ in range(2):  # the first one opens the upstream connection
            stage.client.data_received(REQUESTS[0])
            await stage.settle()
            before = stage.transport.written
            assert stage.busy is not None
            stage.busy[0].data_received(REPLIES[0])
            stage.client.flush()  # at once, within the callback
            answer = stage.transport.written[len(before) :]
            await stage.settle()
        await stage.end()
        return len(stage.outcome()["instances"]), answer

    connections, answer = asyncio.run(serve())
    assert connections == 1
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhello")
