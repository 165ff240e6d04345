"""Body framing: length, chunked and until close; whole, byte by byte and at every split."""

from __future__ import annotations

import pytest

from onetrip.errors import Kind, ProtocolError
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_body import (
    ChunkedDecoder,
    CloseDecoder,
    LengthDecoder,
    chunk_start,
    is_bodiless,
    last_chunk,
)
from support.http1_cases import (
    Message,
    assert_parses,
    assert_refused,
    read_requests,
    read_responses,
)

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_FIELDS = [(b"Host", b"x"), (b"Transfer-Encoding", b"chunked")]


def posted(body: bytes, trailers: list[tuple[bytes, bytes]] | None = None) -> Message:
    return Message((b"POST", b"/"), CHUNKED_FIELDS, body, trailers or [], is_complete=True)


def test_body_of_known_length_ends_where_the_next_request_starts():
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    data = first + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    assert_parses(
        data,
        [
            Message(
                (b"POST", b"/"),
                [(b"Host", b"x"), (b"Content-Length", b"5")],
                b"hello",
                is_complete=True,
            ),
            Message((b"GET", b"/2"), [(b"Host", b"x")], is_complete=True),
        ],
    )


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\na\r\n2\r\nbc\r\n00\r\n\r\n", b"abc"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"0000000000000003\r\n\r\n\r\r\n0\r\n\r\n", b"\r\n\r"),
        (b'3;a;b=c;d="e;\\"f"\r\nabc\r\n0;last\r\n\r\n', b"abc"),
    ],
)
def test_chunked_body(body, payload):
    assert_parses(CHUNKED + body, [posted(payload)])


def test_request_after_a_chunked_body_is_kept():
    assert_parses(
        CHUNKED + b"1\r\na\r\n0\r\n\r\n" + CHUNKED + b"0\r\n\r\n", [posted(b"a"), posted(b"")]
    )


def test_trailers_are_kept_and_dangerous_ones_dropped():
    body = b"0\r\nX-Sum: 1\r\nHost: evil\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
    assert_parses(CHUNKED + body, [posted(b"", [(b"X-Sum", b"1")])])


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1\r\na\n",
        b"1\r\nab\r\n",
        b"1\r\na\r\r\n",
        b"2\r\na\r\n0\r\n\r\n",
        b"1;\r\na\r\n",
        b"1;=b\r\na\r\n",
        b"1;a=\r\na\r\n",
        b"1;a\nb\r\na\r\n",
        b"1;a\rb\r\na\r\n",
        b'1;a="\n"\r\na\r\n',
        b"1_0\r\n",
        b"00000000000000001\r\na\r\n",
        b"1\r\na\r\n0\r\nBad Trailer: x\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nA: b\n\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_malformed_chunked_body_is_refused_in_every_split(body):
    assert_refused(CHUNKED + body, Kind.MALFORMED)


class TestLimits:
    small = Limits(chunk_line=40, chunk_extensions=60, trailers=50)

    @pytest.mark.parametrize(
        "body",
        [
            b"1;" + b"a" * 40 + b"\r\na\r\n",
            b"1;" + b"a" * 400,
            (b"1;" + b"a" * 25 + b"\r\na\r\n") * 3,
            b"0\r\nA: " + b"b" * 50 + b"\r\n\r\n",
            b"0\r\nA: " + b"b" * 500,
        ],
        ids=["line", "endless line", "extensions", "trailers", "endless trailers"],
    )
    def test_over_a_limit(self, body):
        assert_refused(CHUNKED + body, Kind.HEAD_TOO_LARGE, limits=self.small)

    def test_many_trailers(self):
        limits = Limits(fields=3)
        assert_refused(
            CHUNKED + b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", Kind.HEAD_TOO_LARGE, limits=limits
        )


@pytest.mark.parametrize(
    "decoder", [LengthDecoder(5), ChunkedDecoder(Limits())], ids=["length", "chunked"]
)
def test_early_end_of_stream_is_an_error(decoder):
    decoder.decode(b"1\r\n")
    with pytest.raises(ProtocolError) as caught:
        decoder.finish()
    assert caught.value.kind is Kind.RESET


def test_body_until_close_ends_with_the_stream():
    decoder = CloseDecoder()
    assert decoder.decode(b"abc") == b"abc"
    assert not decoder.is_complete
    decoder.finish()
    assert decoder.is_complete


def test_large_chunk_data_is_not_copied():
    decoder = ChunkedDecoder(Limits())
    decoder.decode(b"100000\r\n")
    piece = b"x" * 65536
    assert decoder.decode(piece) is piece


@pytest.mark.parametrize(
    ("method", "status", "bodiless"),
    [
        (b"HEAD", 200, True),
        (b"GET", 204, True),
        (b"GET", 304, True),
        (b"GET", 103, True),
        (b"GET", 200, False),
        (b"POST", 404, False),
    ],
)
def test_which_responses_have_no_body(method, status, bodiless):
    assert is_bodiless(method, status) is bodiless


@pytest.mark.parametrize(
    ("lines", "method", "rest"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HEAD", b"HTTP/1.1 204 X\r\n\r\n"),
        (b"HTTP/1.1 304 OK\r\nContent-Length: 9\r\n\r\n", b"GET", b"HTTP/1.1 204 X\r\n\r\n"),
        (
            b"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET",
            b"HTTP/1.1 204 X\r\n\r\n",
        ),
    ],
)
def test_bodiless_response_ends_with_its_head(lines, method, rest):
    reading = read_responses([lines + rest], method)
    assert [m.body for m in reading.messages] == [b"", b""]
    assert all(m.is_complete for m in reading.messages)


def test_encoder_and_decoder_agree():
    wire = chunk_start(300) + b"x" * 300 + b"\r\n" + last_chunk([(b"A", b"b")])
    decoder = ChunkedDecoder(Limits())
    assert decoder.decode(wire + b"next") == b"x" * 300
    assert (decoder.trailers, decoder.leftover) == ([(b"A", b"b")], b"next")


def test_smuggled_request_inside_a_chunk_stays_body():
    inner = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
    reading = read_requests([CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)])
    assert [m.start for m in reading.messages] == [(b"POST", b"/")]
