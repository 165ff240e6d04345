"""HTTP/2 header lists as HTTP/1.1 heads, and the meter of frames."""

from __future__ import annotations

import struct

import pytest

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_head import HeadReader
from onetrip.wire.http2 import (
    MAX_CONTINUATIONS,
    MAX_FRAME,
    PREFACE,
    Code,
    FloodError,
    FrameMeter,
    goaway_frame,
    read_request,
    read_trailers,
    response_headers,
)

GOOD = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.test"), (b":path", b"/x")]


def read(headers, *, has_body=False, limits=None):
    return read_request(headers, has_body=has_body, reader=HeadReader(limits or Limits()))


def frame(kind: int, flags: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, 1) + payload


class TestRequest:
    def test_pseudo_headers_become_the_request_line(self):
        head = read([*GOOD, (b"accept", b"*/*")])
        assert (head.method, head.target, head.authority) == (b"GET", b"/x", b"a.test")
        assert head.meta.fields == [(b"host", b"a.test"), (b"accept", b"*/*")]
        assert not head.has_body

    def test_body_without_a_length_is_chunked(self):
        assert read(GOOD, has_body=True).meta.is_chunked
        with_length = read([*GOOD, (b"content-length", b"5")], has_body=True)
        assert (with_length.meta.is_chunked, with_length.meta.content_length) == (False, 5)

    def test_host_stands_in_for_authority(self):
        headers = [field for field in GOOD if field[0] != b":authority"]
        assert read([*headers, (b"host", b"b.test")]).authority == b"b.test"
        assert read([*GOOD, (b"host", b"A.test")]).authority == b"a.test"

    def test_options_may_ask_for_the_server(self):
        headers = [(b":method", b"OPTIONS"), *GOOD[1:3], (b":path", b"*")]
        assert read(headers).target == b"*"

    def test_head_over_its_limit_has_its_own_error(self):
        with pytest.raises(LimitError) as caught:
            read([*GOOD, (b"x", b"v" * 5000)], limits=Limits(head=4096))
        assert caught.value.kind is Kind.HEAD_TOO_LARGE

    def test_connect_is_not_supported(self):
        with pytest.raises(ProtocolError) as caught:
            read([(b":method", b"CONNECT"), (b":authority", b"a.test:443")])
        assert caught.value.kind is Kind.UNSUPPORTED

    def test_te_trailers_is_allowed(self):
        assert read([*GOOD, (b"te", b"trailers")])

    def test_trailers_hold_no_pseudo_headers(self):
        assert read_trailers([(b"x-sum", b"1")]) == [(b"x-sum", b"1")]
        with pytest.raises(ProtocolError):
            read_trailers([(b":status", b"200")])


def test_response_loses_what_belongs_to_its_connection():
    head = HeadReader(Limits()).response(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX-A: 1 \r\n\r\n"
    )
    assert response_headers(head) == [(b":status", b"200"), (b"x-a", b"1")]


class TestMeter:
    FRAMES = (
        PREFACE
        + frame(4, 0)
        + frame(1, 4, b"block")
        + frame(0, 0, b"data")
        + frame(0, 0)
        + frame(0, 1)
        + frame(3, 0, bytes(4))
        + frame(6, 0, bytes(8))
    )

    def test_every_split_counts_the_same(self):
        for at in range(len(self.FRAMES) + 1):
            meter = FrameMeter(Limits())
            meter.feed(self.FRAMES[:at])
            meter.feed(self.FRAMES[at:])
            assert (meter.cheap, meter.resets, meter.loads) == (4, 1, 1)

    def test_single_bytes_count_the_same(self):
        meter = FrameMeter(Limits())
        for byte in self.FRAMES:
            meter.feed(bytes([byte]))
        assert (meter.cheap, meter.resets, meter.loads) == (4, 1, 1)

    def test_frame_over_the_limit_is_refused_by_its_head(self):
        meter = FrameMeter(Limits())
        meter.feed(PREFACE + MAX_FRAME.to_bytes(3, "big") + b"\0\0\0\0\0\1" + bytes(MAX_FRAME))
        with pytest.raises(FloodError) as caught:
            meter.feed((MAX_FRAME + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1")
        assert caught.value.code is Code.FRAME_SIZE_ERROR

    def test_continuations_are_counted_per_block(self):
        block = frame(1, 0, b"a") + frame(9, 0, b"b") * MAX_CONTINUATIONS
        meter = FrameMeter(Limits())
        meter.feed(PREFACE + block * 3)
        with pytest.raises(FloodError) as caught:
            meter.feed(frame(9, 0, b"b"))
        assert caught.value.code is Code.ENHANCE_YOUR_CALM

    def test_header_block_is_bounded_as_a_whole(self):
        meter = FrameMeter(Limits(head=300))
        meter.feed(PREFACE + frame(1, 0, bytes(400)) + frame(9, 0, bytes(200)))
        with pytest.raises(FloodError):
            meter.feed(frame(9, 0, b"x"))


def test_goaway_has_the_form_of_the_specification():
    assert goaway_frame(5, Code.ENHANCE_YOUR_CALM) == (
        b"\0\0\x08\x07\0\0\0\0\0" + b"\0\0\0\x05" + b"\0\0\0\x0b"
    )


@pytest.mark.parametrize(("value", "code"), [(8, Code.CANCEL), (14, Code.PROTOCOL_ERROR)])
def test_unknown_codes_are_protocol_errors(value, code):
    assert Code.of(value) is code
