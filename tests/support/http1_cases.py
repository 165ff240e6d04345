"""Drives the HTTP/1 core over a stream of bytes, whole and in every split.

`read_requests` is the smallest correct server loop around the core. `assert_parses` and
`assert_refused` feed one case whole, byte by byte and cut at every position, because a framing
bug that shows only at one split is exactly what a smuggler looks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from onetrip.errors import Kind, ProtocolError
from onetrip.wire.http1 import Fields, Limits
from onetrip.wire.http1_body import BodyDecoder, request_decoder, response_decoder
from onetrip.wire.http1_head import HeadReader, RequestHead, ResponseHead

LIMITS = Limits()


@dataclass
class Message:
    """One message read from a stream.

    Attributes:
        is_complete: its last body byte arrived.
    """

    start: tuple[bytes, bytes] | int
    """(method, target) of a request, status of a response."""
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    is_complete: bool = False


@dataclass
class Reading:
    """What a stream of bytes was read as: its messages, then the error that ended it if any."""

    messages: list[Message] = field(default_factory=list)
    error: Kind | None = None
    rest: bytes = b""


class _Loop:
    def __init__(self, limits: Limits, method: bytes | None) -> None:
        self.reading = Reading()
        self._reader = HeadReader(limits)
        self._limits = limits
        self._method = method
        self._decoder: BodyDecoder | None = None
        self._data = b""

    def feed(self, chunk: bytes) -> None:
        self._data += chunk
        while self._data:
            if self._decoder is not None:
                self._body(self._decoder)
            elif not self._head():
                break

    def _head(self) -> bool:
        end = self._reader.find_end(self._data, is_request=self._method is None)
        if end < 0:
            return False
        raw, self._data = self._data[:end], self._data[end:]
        head: RequestHead | ResponseHead
        start: tuple[bytes, bytes] | int
        if self._method is None:
            head = self._reader.request(raw)
            start = (head.method, head.target)
            self._decoder = request_decoder(head.meta, self._limits)
        else:
            head = self._reader.response(raw)
            start = head.status
            self._decoder = response_decoder(head, self._method, self._limits)
        fields = [(name, value.rstrip(b" \t")) for name, value in head.meta.fields]
        self.reading.messages.append(Message(start, fields))
        self._close_if_complete(self._decoder)
        return True

    def _body(self, decoder: BodyDecoder) -> None:
        data, self._data = self._data, b""
        self.reading.messages[-1].body += decoder.decode(data)
        self._close_if_complete(decoder)

    def _close_if_complete(self, decoder: BodyDecoder) -> None:
        if decoder.is_complete:
            message = self.reading.messages[-1]
            message.trailers, message.is_complete = decoder.trailers, True
            self._data = decoder.leftover + self._data
            self._decoder = None

    def run(self, chunks: Iterable[bytes]) -> Reading:
        try:
            for chunk in chunks:
                self.feed(chunk)
        except ProtocolError as error:
            self.reading.error = error.kind
        self.reading.rest = self._data
        return self.reading


def read_requests(chunks: Iterable[bytes], limits: Limits = LIMITS) -> Reading:
    """Read a client's bytes as requests."""
    return _Loop(limits, None).run(chunks)


def read_responses(
    chunks: Iterable[bytes], method: bytes = b"GET", limits: Limits = LIMITS
) -> Reading:
    """Read a server's bytes as responses to `method` requests."""
    return _Loop(limits, method).run(chunks)


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield `data` whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def assert_parses(
    data: bytes, expected: list[Message], *, method: bytes | None = None, limits: Limits = LIMITS
) -> None:
    """Assert that every split of `data` is read as exactly `expected`, with nothing left."""
    for chunks in splits(data):
        loop = _Loop(limits, method)
        reading = loop.run(chunks)
        assert reading.error is None, (reading.error, chunks)
        assert reading.messages == expected, chunks
        assert reading.rest == b"", chunks


def assert_refused(
    data: bytes, kind: Kind, *, method: bytes | None = None, limits: Limits = LIMITS
) -> None:
    """Assert that every split of `data` ends in an error of `kind`, with no complete message."""
    for chunks in splits(data):
        reading = _Loop(limits, method).run(chunks)
        assert reading.error is kind, (reading, chunks)
        assert not any(m.is_complete for m in reading.messages), chunks
