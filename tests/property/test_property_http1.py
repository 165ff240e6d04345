"""HTTP/1 properties: splits change nothing, parse undoes serialise, and two other parsers agree.

The differential tests feed mutated messages to h11 and httptools too. We may refuse what they
accept; but what we accept, at least one of them accepts, and whoever accepts reads the same
messages and the same body bytes. Anything else is a smuggling bug in somebody.
"""

from __future__ import annotations

import itertools
import random

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.wire.http1 import Limits
from onetrip.wire.http1_body import ChunkedDecoder, chunk_start, last_chunk
from onetrip.wire.http1_head import HeadReader, serialise_request, serialise_response
from support.http1_cases import Message, Reading, read_requests, read_responses

TOKENS = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12).map(str.encode)
VALUES = (
    st.binary(max_size=30)
    .map(lambda b: bytes(c for c in b if c == 9 or (c >= 32 and c != 127)))
    .map(lambda b: b.strip(b" \t"))
)
FIELDS = st.lists(st.tuples(TOKENS.map(lambda t: b"X-" + t), VALUES), max_size=8)
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = sorted({p % (len(data) + 1) for p in points} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(FIELDS, TOKENS)
def test_request_parse_undoes_serialise(fields, path):
    fields = [(b"Host", b"x"), *fields]
    target = b"/" + path.replace(b"#", b"")
    head = HeadReader(Limits()).request(serialise_request(b"GET", target, fields))
    assert (head.method, head.target, head.meta.fields) == (b"GET", target, fields)


@given(FIELDS, st.integers(200, 599), VALUES)
def test_response_parse_undoes_serialise(fields, status, reason):
    head = HeadReader(Limits()).response(serialise_response(status, reason, fields))
    assert (head.status, head.reason, head.meta.fields) == (status, reason, fields)


@given(BODIES, st.lists(st.integers(0, 10_000), max_size=12), FIELDS)
def test_chunked_body_is_the_same_in_every_split(pieces, points, trailers):
    wire = b"".join(chunk_start(len(p)) + p + b"\r\n" for p in pieces) + last_chunk(trailers)
    decoder = ChunkedDecoder(Limits())
    body, rest = b"", b""
    for part in cut(wire + b"NEXT", points):
        if decoder.is_complete:
            rest += part
        else:
            body += decoder.decode(part)
    assert (body, decoder.trailers) == (b"".join(pieces), trailers)
    assert decoder.leftover + rest == b"NEXT"


SEEDS = [
    b"GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"a;x=y\r\n0123456789\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nz",
    b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"
    b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
]
PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\xff", b":", b";", b",",
    b"0", b"5", b"+", b"-", b"0x", b"Content-Length: 3\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n", b"chunked", b"identity",
    b"Host: y\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"GET /e HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.0", b"HTTP/2.0", b"CONNECT", b"http://y/", b"\r\n folded", b"\"", b"\\",
]  # fmt: skip


def mutate(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(4)
        if choice == 0:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif choice == 1:
            data = data[:at] + data[at + rng.randint(1, 4) :]
        elif choice == 2:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        else:
            lines = data.split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            data = b"\r\n".join(lines)
    return data


def by_h11(data: bytes) -> Reading:
    """Read requests with h11, one connection per message as h11 wants it.

    It does not skip the empty line that RFC 9112 section 2.2 allows before a request, and it is
    the only one of the others that takes unknown methods; skipping here keeps both comparable.
    """
    reading, rest = Reading(), data
    while rest := rest.removeprefix(b"\r\n"):
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(rest)
        try:
            message = None
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Request):
                    message = Message((event.method, event.target), list(event.headers.raw_items()))
                    reading.messages.append(message)
                elif isinstance(event, h11.Data):
                    message.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    message.is_complete = True
                    break
                else:
                    return reading
        except h11.RemoteProtocolError:
            reading.error = "refused"
            return reading
        rest = connection.trailing_data[0]
    return reading


class _Collector:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.in_head = True

    def on_message_begin(self) -> None:
        self.in_head = True
        self.messages.append(Message((b"", b""), []))

    def on_url(self, url: bytes) -> None:
        method, target = self.messages[-1].start
        self.messages[-1].start = (method, target + url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # trailers are reported as fields too
            self.messages[-1].fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.messages[-1].is_complete = True


def by_httptools(data: bytes, kind=httptools.HttpRequestParser) -> Reading:
    collector, reading = _Collector(), Reading()
    parser = kind(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        reading.error = "refused"
    reading.messages = collector.messages
    return reading


def bodies(reading: Reading) -> list[bytes]:
    return [m.body for m in reading.messages if m.is_complete]


@pytest.mark.parametrize("seed", range(8))
def test_mutated_requests_are_read_as_others_read_them(seed):
    rng = random.Random(seed)
    for _ in range(400):
        data = mutate(rng, rng.choice(SEEDS))
        compare(data, read_requests([data]), [by_h11(data), by_httptools(data)])


@given(st.integers(0, 2**32), st.lists(st.integers(0, 10_000), max_size=10))
@settings(max_examples=200, deadline=None)
def test_mutated_requests_are_read_the_same_in_every_split(seed, points):
    rng = random.Random(seed)
    data = mutate(rng, rng.choice(SEEDS))
    whole, parts = read_requests([data]), read_requests(cut(data, points))
    assert bodies(whole) == bodies(parts)
    assert (whole.error is None) == (parts.error is None)
    assert [m for m in whole.messages if m.is_complete] == [
        m for m in parts.messages if m.is_complete
    ]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_responses_are_read_as_httptools_reads_them(seed):
    rng = random.Random(seed)
    for _ in range(300):
        data = mutate(rng, rng.choice(RESPONSES))
        ours = read_responses([data])
        if ours.error is None and ours.messages and ours.messages[0].is_complete:
            theirs = by_httptools(data, httptools.HttpResponseParser)
            if theirs.messages and theirs.messages[0].is_complete:
                assert ours.messages[0].body == theirs.messages[0].body, data


def compare(data: bytes, ours: Reading, others: list[Reading]) -> None:
    """Compare the messages we would forward, one by one."""
    for index, message in enumerate(m for m in ours.messages if m.is_complete):
        accepted = [
            other.messages[index]
            for other in others
            if index < len(other.messages) and other.messages[index].is_complete
        ]
        assert accepted, ("we alone accept", index, data)
        for theirs in accepted:
            assert theirs.body == message.body, (index, data)
            assert len(theirs.fields) == len(message.fields), (index, data)
