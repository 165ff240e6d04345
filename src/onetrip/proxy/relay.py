"""Moves one body from one channel to another, with backpressure and bounded memory.

A pump never waits. Its caller calls `move` whenever either channel has news; a pump whose sink is
full leaves the bytes at the source, whose transport then stops reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrip.errors import (
    DownstreamError,
    Kind,
    LimitError,
    OnetripError,
    ProtocolError,
    UpstreamError,
)
from onetrip.proxy.channel import JOIN_SIZE, Channel
from onetrip.wire.http1_body import BodyDecoder, chunk_start, last_chunk, request_decoder

if TYPE_CHECKING:
    from onetrip.proxy.dispatch import Dispatch
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.settings import ProxySettings
    from onetrip.timing import Clock
    from onetrip.wire.http1_head import MessageMeta

RESEND_SIZE = 64 * 1024
"""Request body bytes kept so that an attempt nobody acted on can be repeated elsewhere."""


class Pump:
    """One body on its way from `source` to `sink`.

    Args:
        decoder: cuts the body out of the source's bytes.
        is_chunked: write it in the chunked coding.
        can_resend: keep its first `RESEND_SIZE` bytes for `rewind`.
        limit: largest payload accepted, bytes; None for no limit.

    Attributes:
        size: payload bytes moved.
        is_done: the whole body was written.
    """

    __slots__ = ("_limit", "_taken", "decoder", "is_chunked", "is_done", "size", "source")

    def __init__(
        self,
        source: Channel,
        decoder: BodyDecoder,
        is_chunked: bool,
        *,
        can_resend: bool = False,
        limit: int | None = None,
    ) -> None:
        self.source = source
        self.decoder = decoder
        self.is_chunked = is_chunked
        self.size = 0
        self.is_done = False
        self._limit = limit
        self._taken = b"" if can_resend else None

    def move(self, sink: Channel, head: bytes = b"") -> None:
        """Move what has arrived and fits; write `head` before it.

        Raises:
            ProtocolError: the body breaks its framing, or its stream ended early (kind RESET).
            LimitError: the body is larger than the limit, kind BODY_TOO_LARGE.
        """
        payload = b""
        if not self.is_done and not sink.is_write_paused:
            decoder = self.decoder
            if not decoder.is_complete:
                payload = self._take(decoder)
            if decoder.is_complete:
                self.is_done = True
        if payload or head or self.is_done:
            self._write(sink, head, payload)

    @property
    def can_rewind(self) -> bool:
        """Tell whether every byte taken from the source is still at hand."""
        return self._taken is not None

    def rewind(self) -> None:
        """Put what was taken back at the source, while `can_rewind`; the pump is then spent."""
        assert self._taken is not None
        self.source.put_back(self._taken)

    def _take(self, decoder: BodyDecoder) -> bytes:
        source = self.source
        data = source.take()
        if not data:
            if source.has_ended:
                if (error := source.error) is not None:
                    kind = error.kind if isinstance(error, OnetripError) else Kind.RESET
                    raise ProtocolError("connection reset inside a body", kind=kind)
                decoder.finish()
            return b""
        payload = decoder.decode(data)
        if source.has_ended and source.error is None and not decoder.is_complete:
            decoder.finish()  # both came at once; nothing else will
        self.size += len(payload)
        if self._taken is not None:
            body = data[: -len(decoder.leftover)] if decoder.leftover else data
            fits = len(self._taken) + len(body) <= RESEND_SIZE
            self._taken = self._taken + body if fits else None
        if decoder.leftover:
            source.put_back(decoder.leftover)
        if self._limit is not None and self.size > self._limit:
            raise LimitError(
                f"body of {self.size} bytes exceeds limit of {self._limit}",
                kind=Kind.BODY_TOO_LARGE,
            )
        return payload

    def _write(self, sink: Channel, head: bytes, payload: bytes) -> None:
        if sink.has_frames:
            sink.write_body(payload, self.decoder.trailers if self.is_done else None)
            return
        before, after = head, b""
        if self.is_chunked:
            if payload:
                before += chunk_start(len(payload))
                after = b"\r\n"
            if self.is_done:
                after += last_chunk(self.decoder.trailers)
        if len(payload) <= JOIN_SIZE:
            if data := before + payload + after:
                sink.write(data)
            return
        if before:
            sink.write(before)
        sink.write(payload)
        if after:
            sink.write(after)


def request_pump(client: Channel, meta: MessageMeta, settings: ProxySettings) -> Pump:
    """Return the pump for a request's body."""
    return Pump(
        client,
        request_decoder(meta, settings.limits),
        meta.is_chunked,
        can_resend=True,
        limit=settings.body_limit,
    )


class Tunnel:
    """Two channels joined byte for byte, each direction closed on its own.

    Attributes:
        sizes: bytes moved to the second and to the first channel.
        is_done: both directions have ended, or one connection is gone.
    """

    __slots__ = ("_ended", "_sides", "is_done", "sizes")

    def __init__(self, first: Channel, second: Channel) -> None:
        self._sides = (first, second)
        self._ended = [False, False]
        self.sizes = [0, 0]
        self.is_done = False

    def move(self) -> None:
        """Move what has arrived and fits, and pass on ends of stream."""
        for index in (0, 1):
            source, sink = self._sides[index], self._sides[1 - index]
            if not sink.is_write_paused and (data := source.take()):
                self.sizes[index] += len(data)
                sink.write(data)
            if source.has_ended and not source.received and not self._ended[index]:
                self._ended[index] = True
                sink.end_writing()
        lost = any(side.is_lost and not side.received for side in self._sides)
        self.is_done = lost or all(self._ended)


async def join(down: ClientChannel, up: Channel, clock: Clock, timeout: float) -> Tunnel:
    """Join both until they end, or until neither has sent anything for `timeout` s."""
    tunnel = Tunnel(down, up)
    moved_at, sizes = clock.now(), [0, 0]
    while True:
        tunnel.move()
        if tunnel.is_done:
            return tunnel
        if sizes != tunnel.sizes:
            moved_at, sizes = clock.now(), list(tunnel.sizes)
        if not await down.wait_until(moved_at + timeout):
            return tunnel


async def carry(dispatch: Dispatch, down: ClientChannel, pump: Pump, start: bytes) -> None:
    """Relay a response's body after `start`, and what is left of its request beside it.

    Raises:
        DownstreamError: the client went away, took nothing or sent something malformed.
        UpstreamError: the response broke off, or breaks its framing.
    """
    try:
        pump.move(down, start)
        while not pump.is_done:
            if down.is_lost:
                raise DownstreamError("client closed the connection", kind=Kind.RESET)
            if not dispatch.is_request_done:
                dispatch.move_request()
            await dispatch.wait()
            pump.move(down)
    except ProtocolError as error:
        raise UpstreamError(f"response: {error}", kind=error.kind) from error
