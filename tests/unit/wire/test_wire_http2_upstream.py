"""Requests for an upstream as header lists, and its responses as heads."""

from __future__ import annotations

import pytest

from onetrip.errors import LimitError, ProtocolError
from onetrip.wire.http1 import Limits
from onetrip.wire.http2_upstream import read_response, request_headers, split_lines


def read(headers, *, ends=False, method=b"GET", limits=None):
    return read_response(headers, ends=ends, method=method, limits=limits or Limits())


class TestRequest:
    def test_lines_become_fields_without_those_about_the_connection(self):
        block = (
            b"Host: a.test\r\nX-A:  1 \r\nConnection: Upgrade\r\nUpgrade: x\r\n"
            b"Transfer-Encoding: chunked\r\nX-Empty: \r\nX-Colon: a:b\r\n"
        )
        assert split_lines(block) == [
            (b"host", b"a.test"),
            (b"x-a", b"1"),
            (b"x-empty", b""),
            (b"x-colon", b"a:b"),
        ]

    def test_host_is_the_authority(self):
        fields = [(b"x-a", b"1"), (b"host", b"a.test:81")]
        assert request_headers(b"PUT", b"https", b"/x?y", fields) == [
            (b":method", b"PUT"),
            (b":scheme", b"https"),
            (b":authority", b"a.test:81"),
            (b":path", b"/x?y"),
            (b"x-a", b"1"),
        ]

    def test_request_without_a_host_has_no_authority(self):
        names = [name for name, _ in request_headers(b"GET", b"http", b"/", [])]
        assert names == [b":method", b":scheme", b":path"]


class TestResponse:
    def test_fields_and_status_are_taken_over(self):
        head = read([(b":status", b"404"), (b"x-a", b"1"), (b"content-length", b"3")])
        assert (head.status, head.reason, head.version) == (404, b"", b"2.0")
        assert head.meta.fields == [(b"x-a", b"1"), (b"content-length", b"3")]
        assert head.meta.content_length == 3
        assert head.keeps_alive

    @pytest.mark.parametrize(
        ("method", "status", "length"),
        [(b"GET", b"200", 0), (b"HEAD", b"200", None), (b"GET", b"204", None)],
    )
    def test_body_that_is_known_to_be_empty_has_a_length(self, method, status, length):
        head = read([(b":status", status)], ends=True, method=method)
        assert head.meta.content_length == length
        assert read([(b":status", status)], method=method).meta.content_length is None

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [(b":status", b"101")],
            [(b":status", b"20")],
            [(b":status", b"200"), (b":status", b"200")],
            [(b":status", b"200"), (b":path", b"/")],
            [(b"x-a", b"1"), (b":status", b"200")],
            [(b":status", b"200"), (b"upgrade", b"x")],
            [(b":status", b"200"), (b"te", b"gzip")],
            [(b":status", b"200"), (b"x-a", b"1\n2")],
            [(b":status", b"200"), (b"content-length", b"-1")],
        ],
    )
    def test_malformed_responses_are_refused(self, headers):
        with pytest.raises(ProtocolError):
            read(headers)

    def test_early_end_is_refused(self):
        headers = [(b":status", b"200"), (b"content-length", b"5")]
        with pytest.raises(ProtocolError):
            read(headers, ends=True)
        assert read(headers, ends=True, method=b"HEAD").meta.content_length == 5

    def test_limits_hold(self):
        with pytest.raises(LimitError):
            read([(b":status", b"200"), (b"a", b"v" * 300)], limits=Limits(head=256))
        with pytest.raises(LimitError):
            read([(b":status", b"200"), *[(b"a", b"")] * 3], limits=Limits(fields=2))
