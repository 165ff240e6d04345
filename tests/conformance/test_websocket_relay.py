"""After a switch of protocols every byte passes unchanged, both ways, however it is cut.

Frames are made to be wrong as well as right (reserved bits and opcodes, lengths in more bytes than
they need, fragments, no mask): a relay has no opinion about them (RFC 6455 section 5).
"""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fake_upstream import FakeUpstream
from support.proxy_rig import one_region
from support.waits import BOUND

OFFER = (
    b"GET /chat HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


@st.composite
def frames(draw):
    """Return one WebSocket frame, valid or not."""
    payload = draw(st.binary(max_size=300) | st.integers(0, 70_000).map(bytes))
    first = draw(st.integers(0, 255))
    mask = draw(st.none() | st.binary(min_size=4, max_size=4))
    fits = [bits for bits in (7, 16, 64) if len(payload) < (126 if bits == 7 else 1 << bits)]
    bits, masked = draw(st.sampled_from(fits)), 0x80 if mask is not None else 0
    if bits == 7:
        head = bytes([first, masked | len(payload)])
    else:
        head = bytes([first, masked | (126 if bits == 16 else 127)])
        head += len(payload).to_bytes(bits // 8, "big")
    if mask is not None:
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    return head + (mask or b"") + payload


streams = st.lists(frames(), min_size=1, max_size=8).map(b"".join)
cuts = st.lists(st.integers(1, 5000), min_size=1, max_size=6)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut `data` into pieces of these sizes; the last piece takes the rest."""
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [piece for piece in [*found, data] if piece]


async def send_all(writer: asyncio.StreamWriter, parts: list[bytes]) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)


@given(streams, streams, cuts, cuts, st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
async def test_frames_pass_unchanged(there, back, there_cuts, back_cuts, is_early):
    got = asyncio.get_running_loop().create_future()

    async def switch(connection):
        await connection.read_head()
        # The first frames may come in one piece with the head of the 101.
        parts = pieces(back, back_cuts)
        await connection.send(SWITCH + parts[0] if is_early else SWITCH)
        sending = asyncio.ensure_future(send_all(connection.writer, parts[is_early:]))
        got.set_result(await connection.read_exactly(len(there)))
        await sending
        await connection.read_to_end()

    async with (
        FakeUpstream(switch) as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        await client.send(OFFER)
        assert b" 101 " in await client.head()
        async with asyncio.timeout(BOUND):
            sending = asyncio.ensure_future(send_all(client.writer, pieces(there, there_cuts)))
            assert await client.reader.readexactly(len(back)) == back
            await sending
            assert await got == there
