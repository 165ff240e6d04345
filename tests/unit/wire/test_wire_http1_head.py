"""Request and response heads: what is read, and everything that must be refused."""

from __future__ import annotations

import pytest

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_head import HeadReader, serialise_request, serialise_response
from support.http1_cases import Message, assert_parses, assert_refused


def parse(head: bytes):
    return HeadReader(Limits()).request(head)


def request(*lines: str, start: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")


def complete(method: bytes, target: bytes, *fields: tuple[bytes, bytes]) -> Message:
    return Message((method, target), list(fields), is_complete=True)


class TestAcceptedRequests:
    def test_fields_keep_case_order_and_bytes(self):
        data = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A:1\r\nx-a: \t two words\t \r\nB: \xff\r\n\r\n"
        assert_parses(
            data,
            [
                complete(
                    b"GET",
                    b"/a?b=c",
                    (b"Host", b"x"),
                    (b"X-A", b"1"),
                    (b"x-a", b"two words"),
                    (b"B", b"\xff"),
                )
            ],
        )

    def test_pipelined_requests_are_read_in_order(self):
        one, two = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD /2 HTTP/1.1\r\nHost: y\r\n\r\n"
        assert_parses(
            one + two,
            [complete(b"GET", b"/1", (b"Host", b"x")), complete(b"HEAD", b"/2", (b"Host", b"y"))],
        )

    def test_one_empty_line_before_a_request_is_skipped(self):
        assert_parses(b"\r\n" + request("Host: x"), [complete(b"GET", b"/", (b"Host", b"x"))])

    def test_http10_needs_no_host(self):
        head = parse(b"GET / HTTP/1.0\r\n\r\n")
        assert (head.minor, head.authority, head.keeps_alive) == (0, b"", False)

    @pytest.mark.parametrize(
        ("target", "sent", "authority"),
        [
            ("http://a.b:8080/c?d", b"/c?d", b"a.b:8080"),
            ("HTTPS://a.b", b"/", b"a.b"),
            ("http://a.b?q=/", b"/?q=/", b"a.b"),
            ("http://[::1]:80/", b"/", b"[::1]:80"),
        ],
    )
    def test_absolute_form_becomes_origin_form(self, target, sent, authority):
        head = parse(request(f"Host: {authority.decode()}", start=f"GET {target} HTTP/1.1"))
        assert (head.target, head.authority) == (sent, authority)

    @pytest.mark.parametrize("target", ["*", "http://x"])
    def test_options_may_ask_about_the_whole_server(self, target):
        assert parse(request("Host: x", start=f"OPTIONS {target} HTTP/1.1")).target == b"*"

    @pytest.mark.parametrize(
        ("minor", "connection", "keeps_alive"),
        [
            (1, None, True),
            (1, "close", False),
            (1, "Keep-Alive", True),
            (1, "keep-alive, Close", False),
            (0, None, False),
            (0, "keep-alive", True),
            (0, "foo", False),
        ],
    )
    def test_connection_reuse_follows_version_and_options(self, minor, connection, keeps_alive):
        lines = ["Host: x"] + ([f"Connection: {connection}"] if connection else [])
        head = parse(request(*lines, start=f"GET / HTTP/1.{minor}"))
        assert head.keeps_alive is keeps_alive

    def test_connection_options_of_several_lines_add_up(self):
        head = parse(request("Host: x", "Connection: A, b", "connection: c,,"))
        assert head.meta.connection == [b"a", b"b", b"c"]

    def test_meta_tells_framing_expectation_and_upgrade(self):
        meta = parse(
            request("Host: x", "Content-Length: 007 ", "Expect: 100-Continue", "Upgrade: websocket")
        ).meta
        assert (meta.content_length, meta.is_chunked) == (7, False)
        assert (meta.expects_continue, meta.upgrade) == (True, b"websocket")

    def test_repeated_fields_are_parsed_once(self):
        reader = HeadReader(Limits())
        first = reader.request(request("Host: x", start="GET /1 HTTP/1.1"))
        second = reader.request(request("Host: x", start="GET /2 HTTP/1.1"))
        third = reader.request(request("Host: y", start="GET /2 HTTP/1.1"))
        assert second.meta is first.meta
        assert third.meta is not first.meta
        assert third.authority == b"y"


MALFORMED = {
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF in fields": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare CR in value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
    "fold": request("Host: x", "A: b", " c"),
    "fold with tab": request("Host: x", "A: b", "\tc"),
    "leading white space": request(" Host: x"),
    "space before colon": request("Host: x", "A : b"),
    "tab before colon": request("Host: x", "Transfer-Encoding\t: chunked"),
    "empty name": request("Host: x", ": b"),
    "no colon": request("Host: x", "AB"),
    "NUL in value": request("Host: x", "A: \0"),
    "control in value": request("Host: x", "A: \x0b"),
    "DEL in value": request("Host: x", "A: \x7f"),
    "control in name": request("Host: x", "A\x01: b"),
    "non-ASCII name": request("Host: x", "Ä: b"),
    "bracket in name": request("Host: x", "A[]: b"),
    "no host": request("A: b"),
    "two hosts": request("Host: x", "Host: x"),
    "empty host": request("Host:"),
    "host list": request("Host: a, b"),
    "host with path": request("Host: a/b"),
    "host with userinfo": request("Host: u@a"),
    "host with bad port": request("Host: a:8o"),
    "host differs from authority": request("Host: b", start="GET http://a/ HTTP/1.1"),
    "authority with userinfo": request("Host: a", start="GET http://u@a/ HTTP/1.1"),
    "empty authority": request("Host: a", start="GET http:///x HTTP/1.1"),
    "other scheme": request("Host: a", start="GET ftp://a/ HTTP/1.1"),
    "no slash": request("Host: a", start="GET a HTTP/1.1"),
    "asterisk with GET": request("Host: a", start="GET * HTTP/1.1"),
    "fragment": request("Host: a", start="GET /a#b HTTP/1.1"),
    "non-ASCII target": request("Host: a", start="GET /\xe4 HTTP/1.1"),
    "control in target": request("Host: a", start="GET /\x01 HTTP/1.1"),
    "two spaces": request("Host: a", start="GET  / HTTP/1.1"),
    "tab as separator": request("Host: a", start="GET\t/ HTTP/1.1"),
    "trailing space": request("Host: a", start="GET / HTTP/1.1 "),
    "space in target": request("Host: a", start="GET /a b HTTP/1.1"),
    "method not a token": request("Host: a", start="G@T / HTTP/1.1"),
    "method too long": request("Host: a", start=f"{'G' * 33} / HTTP/1.1"),
    "no version (HTTP/0.9)": request(start="GET /"),
    "lower-case version": request("Host: a", start="GET / http/1.1"),
    "two leading empty lines": b"\r\n\r\n" + request("Host: a"),
    "both lengths": request("Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"),
    "both lengths, other order": request(
        "Host: a", "Transfer-Encoding: chunked", "Content-Length: 1"
    ),
    "two lengths": request("Host: a", "Content-Length: 1", "Content-Length: 2"),
    "two equal lengths": request("Host: a", "Content-Length: 1", "Content-Length: 1"),
    "length list": request("Host: a", "Content-Length: 1, 1"),
    "signed length": request("Host: a", "Content-Length: +1"),
    "negative length": request("Host: a", "Content-Length: -1"),
    "hex length": request("Host: a", "Content-Length: 0x1"),
    "spaced length": request("Host: a", "Content-Length: 1 1"),
    "underscored length": request("Host: a", "Content-Length: 1_1"),
    "empty length": request("Host: a", "Content-Length:"),
    "length of 19 digits": request("Host: a", "Content-Length: " + "1" * 19),
    "non-ASCII digit": request("Host: a", "Content-Length: \xb2"),
    "unknown coding": request("Host: a", "Transfer-Encoding: gzip"),
    "identity": request("Host: a", "Transfer-Encoding: identity"),
    "coding before chunked": request("Host: a", "Transfer-Encoding: gzip, chunked"),
    "coding after chunked": request("Host: a", "Transfer-Encoding: chunked, gzip"),
    "chunked twice": request("Host: a", "Transfer-Encoding: chunked, chunked"),
    "chunked on two lines": request(
        "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"
    ),
    "quoted chunked": request("Host: a", 'Transfer-Encoding: "chunked"'),
    "prefixed chunked": request("Host: a", "Transfer-Encoding: xchunked"),
    "empty coding": request("Host: a", "Transfer-Encoding:"),
    "chunked parameter": request("Host: a", "Transfer-Encoding: chunked;q=1"),
    "vertical tab before chunked": request("Host: a", "Transfer-Encoding: \x0bchunked"),
    "chunked in HTTP/1.0": request(
        "Host: a", "Transfer-Encoding: chunked", start="POST / HTTP/1.0"
    ),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_request_is_refused_in_every_split(data):
    assert_refused(data, Kind.MALFORMED)


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "HTTP/9.9"])
def test_other_versions_are_told_apart_from_garbage(version):
    assert_refused(request("Host: a", start=f"GET / {version}"), Kind.VERSION)


def test_http2_preface_is_refused():
    assert_refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Kind.VERSION)


@pytest.mark.parametrize("target", ["a:443", "/"])
def test_connect_is_unsupported(target):
    assert_refused(request("Host: a", start=f"CONNECT {target} HTTP/1.1"), Kind.UNSUPPORTED)


class TestLimits:
    small = Limits(head=200, target=50, fields=3)

    def test_head_at_the_limit_passes_and_one_over_fails(self):
        fits = request("Host: a", "B: " + "c" * (200 - len(request("Host: a", "B: "))))
        assert len(fits) == 200
        assert_parses(
            fits,
            [complete(b"GET", b"/", (b"Host", b"a"), (b"B", fits[28:-4]))],
            limits=self.small,
        )
        assert_refused(fits.replace(b"B", b"BB"), Kind.HEAD_TOO_LARGE, limits=self.small)

    def test_endless_head_fails_without_its_end(self):
        assert_refused(
            b"GET / HTTP/1.1\r\nA: " + b"b" * 300, Kind.HEAD_TOO_LARGE, limits=self.small
        )

    def test_too_many_fields(self):
        assert_refused(
            request("Host: a", "B: c", "B: c", "B: c"), Kind.HEAD_TOO_LARGE, limits=self.small
        )

    def test_target_over_the_limit(self):
        long = request("Host: a", start=f"GET /{'a' * 50} HTTP/1.1")
        assert_refused(long, Kind.URI_TOO_LONG, limits=self.small)

    def test_endless_target_fails_without_its_end(self):
        assert_refused(b"GET /" + b"a" * 300, Kind.URI_TOO_LONG, limits=self.small)

    def test_error_names_value_and_limit(self):
        with pytest.raises(LimitError, match="51 bytes exceeds limit of 50"):
            HeadReader(self.small).request(request("Host: a", start=f"GET /{'a' * 50} HTTP/1.1"))


def response(*lines: str, start: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")


class TestResponses:
    @pytest.mark.parametrize(
        ("start", "status", "reason"),
        [
            ("HTTP/1.1 200 OK", 200, b"OK"),
            ("HTTP/1.1 404 Not Found", 404, b"Not Found"),
            ("HTTP/1.1 200 ", 200, b""),
            ("HTTP/1.1 200", 200, b""),
            ("HTTP/1.0 999 \xe4", 999, b"\xe4"),
        ],
    )
    def test_status_line(self, start, status, reason):
        head = HeadReader(Limits()).response(response("A: b", start=start))
        assert (head.status, head.reason) == (status, reason)

    @pytest.mark.parametrize(
        "data",
        [
            response(start="HTTP/2.0 200 OK"),
            response(start="HTTP/1.1 20 OK"),
            response(start="HTTP/1.1 2000 OK"),
            response(start="HTTP/1.1 099 OK"),
            response(start="HTTP/1.1  200 OK"),
            response(start="ICY 200 OK"),
            response(start="HTTP/1.1 200 O\x01K"),
            response("Content-Length: 1", "Transfer-Encoding: chunked"),
            response("Content-Length: 1", "Content-Length: 2"),
            response("Transfer-Encoding: gzip"),
            response("Transfer-Encoding: chunked", start="HTTP/1.0 200 OK"),
            response("A: b", " c"),
            response("Set-Cookie : a"),
            b"HTTP/1.1 200 OK\nA: b\n\n",
            b"\r\n" + response(),
        ],
    )
    def test_malformed_response_is_refused(self, data):
        assert_refused(data, Kind.MALFORMED, method=b"GET")

    def test_long_first_line_of_a_response_is_no_target(self):
        limits = Limits(head=200, target=50)
        data = b"HTTP/1.1 200 " + b"a" * 300
        assert_refused(data, Kind.HEAD_TOO_LARGE, method=b"GET", limits=limits)


class TestSerialise:
    fields = ((b"Host", b"x"), (b"A", b""))

    def test_request_round_trip(self):
        head = parse(serialise_request(b"PUT", b"/a", list(self.fields)))
        assert (head.method, head.target, head.meta.fields) == (b"PUT", b"/a", list(self.fields))

    def test_response_round_trip(self):
        raw = serialise_response(404, b"Not Found", list(self.fields))
        head = HeadReader(Limits()).response(raw)
        assert (head.status, head.reason, head.meta.fields) == (
            404,
            b"Not Found",
            list(self.fields),
        )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (request("Host: x", "A: b", " c"), "folded"),
        (request("Host: x", "nope"), "no colon"),
        (request("Host: x", "A b: c"), "'A b' is not a token"),
        (request("Host: x", "A: \x01"), "'A' holds a control character"),
        (request("Host: x", ": \x01"), "no name"),
    ],
)
def test_message_names_the_fault_and_never_the_value(data, words):
    with pytest.raises(ProtocolError, match=words):
        parse(data)
