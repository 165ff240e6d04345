"""What a server and intermediary of HTTP/1.1 must make of single requests, case by case.

The classes of cases are those of Http11Probe (github.com/MDA2AV/Http11Probe), which needs .NET;
requests and verdicts are made here from RFC 9110 and RFC 9112 (the section stands beside each).
Where the RFCs leave a choice, the verdict is onetrip's strict one.
"""

from __future__ import annotations

import dataclasses
import re

import pytest

from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import FakeUpstream
from support.proxy_rig import one_region

HOST = b"Host: shop.test\r\n"
OK = (200,)
QUICK = ProxySettings(header_timeout=1.0, linger_timeout=0.2, half_close_timeout=0.5)


@dataclasses.dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        section: of RFC 9110 (h) or RFC 9112 (m).
        statuses: acceptable ones; empty when no answer is.
        body: what the application must get; None does not care.
        has: bytes that must reach the application.
        lacks: bytes that must not.
    """

    section: str
    data: bytes
    statuses: tuple[int, ...]
    body: bytes | None = None
    has: bytes = b""
    lacks: bytes = b""


def get(fields: bytes = b"", line: bytes = b"GET /a HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def post(fields: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST /a HTTP/" + version + b"\r\n" + HOST + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


BAD = (400,)
WS = (
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
FIVE = b"Content-Length: 5\r\n"

CASES = {
    "plain": Case("m3", get(), OK),
    "bare LF after the request line": Case("m2.2", get().replace(b"\r\n", b"\n", 1), BAD),
    "bare LF after a field": Case("m2.2", get(b"A: b\n"), BAD),
    "bare CR for a line end": Case("m2.2", get().replace(b"\r\n", b"\r", 1), BAD),
    "bare CR in a value": Case("m2.2", get(b"A: b\rc\r\n"), BAD),
    "one empty line first": Case("m2.2", b"\r\n" + get(), OK),
    "white space line before the fields": Case("m2.2", get(host=b" \r\n" + HOST), BAD),
    "obsolete fold": Case("m5.2", get(b"A: b\r\n c\r\n"), BAD),
    "space before a colon": Case("m5.1", get(b"A : b\r\n"), BAD),
    "no colon": Case("m5", get(b"Abc\r\n"), BAD),
    "no name": Case("h5.1", get(b": b\r\n"), BAD),
    "name that is no token": Case("h5.1", get(b"A[b: c\r\n"), BAD),
    "name beyond ASCII": Case("h5.1", get(b"A\xc3\xa9: b\r\n"), BAD),
    "NUL in a value": Case("h5.5", get(b"A: b\0c\r\n"), BAD),
    "controls in a value": Case("h5.5", get(b"A: b\x07c\r\n"), BAD),
    "empty value": Case("h5.5", get(b"A:\r\n"), OK, has=b"\r\nA: \r\n"),
    "white space around a value": Case("m5.1", get(b"A: \t b\t \r\n"), OK, has=b"\r\nA: b"),
    "order of equal names": Case("h5.3", get(b"A: b\r\nA: c\r\n"), OK, has=b"A: b\r\nA: c\r\n"),
    "too many fields": Case("h5.4", get(b"A: b\r\n" * 200), (431,)),
    "too large a field": Case("h5.4", get(b"A: " + b"b" * 40000 + b"\r\n"), (431,)),
    "too large a name": Case("h5.4", get(b"A" * 40000 + b": b\r\n"), (431,)),
    "two spaces in the request line": Case("m3", get(line=b"GET  /a HTTP/1.1"), BAD),
    "tab in the request line": Case("m3", get(line=b"GET\t/a HTTP/1.1"), BAD),
    "no target": Case("m3", get(line=b"GET HTTP/1.1"), BAD),
    "space in the target": Case("m3.2", get(line=b"GET /a b HTTP/1.1"), BAD),
    "fragment in the target": Case("m3.2", get(line=b"GET /a#b HTTP/1.1"), BAD),
    "target beyond ASCII": Case("m3.2", get(line=b"GET /caf\xc3\xa9 HTTP/1.1"), BAD),
    "NUL in the target": Case("m3.2", get(line=b"GET /a\0b HTTP/1.1"), BAD),
    "target is not normalised": Case(
        "h7.6", get(line=b"GET /a%00/../%2e\\b HTTP/1.1"), OK, has=b"GET /a%00/../%2e\\b HTTP"
    ),
    "escaped line end stays escaped": Case(
        "h7.6", get(line=b"GET /a%0d%0aB:c HTTP/1.1"), OK, has=b"GET /a%0d%0aB:c HTTP"
    ),
    "long target": Case("m3", get(line=b"GET /" + b"a" * 8000 + b" HTTP/1.1"), OK),
    "too long a target": Case("m3", get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), (414,)),
    "too long a method": Case("h9.1", get(line=b"A" * 100 + b" /a HTTP/1.1"), (400, 501)),
    "unknown method": Case("h9.1", get(line=b"FOO /a HTTP/1.1"), OK, has=b"FOO /a HTTP"),
    "method is case-sensitive": Case("h9.1", get(line=b"get /a HTTP/1.1"), OK, has=b"get /a HTTP"),
    "absolute form": Case(
        "m3.2.2",
        get(line=b"GET http://shop.test/a HTTP/1.1"),
        OK,
        has=b"GET /a HTTP/1.1\r\nHost: sh",
    ),
    "absolute form of another host": Case(
        "m3.2.2", get(line=b"GET http://evil.test/a HTTP/1.1"), BAD
    ),
    "asterisk form": Case("m3.2.4", get(line=b"OPTIONS * HTTP/1.1"), OK, has=b"OPTIONS * HTTP"),
    "asterisk form of GET": Case("m3.2.4", get(line=b"GET * HTTP/1.1"), BAD),
    "authority form": Case("m3.2.3", get(line=b"CONNECT shop.test:1 HTTP/1.1"), (501,)),
    "no Host": Case("m3.2", get(host=b""), BAD),
    "two Hosts": Case("m3.2", get(b"Host: evil.test\r\n"), BAD),
    "the same Host twice": Case("m3.2", get(HOST), BAD),
    "empty Host": Case("m3.2", get(host=b"Host:\r\n"), BAD),
    "Host with a user": Case("h7.2", get(host=b"Host: a@shop.test\r\n"), BAD),
    "Host with a path": Case("h7.2", get(host=b"Host: shop.test/a\r\n"), BAD),
    "list of Hosts": Case("h7.2", get(host=b"Host: shop.test, evil.test\r\n"), BAD),
    "Host in capitals": Case("h4.2.3", get(host=b"HOST: SHOP.TEST\r\n"), OK),
    "HTTP/1.0 without Host": Case("m3.2", get(line=b"GET /a HTTP/1.0", host=b""), (404,)),
    "version 9.9": Case("m2.3", get(line=b"GET /a HTTP/9.9"), (505,)),
    "version 1.2": Case("h2.5", get(line=b"GET /a HTTP/1.2"), (505,)),
    "version without a minor": Case("m2.3", get(line=b"GET /a HTTP/1"), (400, 505)),
    "version with zeros": Case("m2.3", get(line=b"GET /a HTTP/01.01"), BAD),
    "version with a space": Case("m2.3", get(line=b"GET /a HTTP/ 1.1"), BAD),
    "version in lower case": Case("m2.3", get(line=b"GET /a http/1.1"), BAD),
    "HTTP/0.9": Case("m3", b"GET /a\r\n\r\n", BAD),
    "preface of HTTP/2": Case("m2.3", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "TLS to a plain port": Case("m3", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n", BAD),
    "length and body": Case("m6.2", post(FIVE, b"hello"), OK, b"hello"),
    "length zero": Case("m6.2", post(b"Content-Length: 0\r\n", b""), OK, b""),
    "POST without a length": Case("m6.3", post(b"", b""), OK, b""),
    "length with zeros": Case("h8.6", post(b"Content-Length: 005\r\n", b"hello"), OK, b"hello"),
    "two lengths": Case("m6.3", post(FIVE + b"Content-Length: 6\r\n", b"hello"), BAD),
    "list of lengths": Case("m6.3", post(b"Content-Length: 5, 6\r\n", b"hello"), BAD),
    "list of equal lengths": Case("m6.3", post(b"Content-Length: 5, 5\r\n", b"hello"), BAD),
    "length of letters": Case("m6.3", post(b"Content-Length: abc\r\n", b"hello"), BAD),
    "length with a sign": Case("m6.3", post(b"Content-Length: +5\r\n", b"hello"), BAD),
    "negative length": Case("m6.3", post(b"Content-Length: -5\r\n", b"hello"), BAD),
    "empty length": Case("m6.3", post(b"Content-Length:\r\n", b"hello"), BAD),
    "huge length": Case("m6.3", post(b"Content-Length: 99999999999999999999\r\n", b""), BAD),
    "body cut short": Case(
        "m8", post(b"Content-Length: 9\r\n", b"hello"), BAD, lacks=b"HTTP/1.1 2"
    ),
    "length and coding": Case(
        "m6.1", post(FIVE + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"), BAD
    ),
    "unknown coding": Case("m6.1", post(b"Transfer-Encoding: gzip\r\n", b""), (400, 501)),
    "coding that does not end chunked": Case(
        "m6.3", post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), BAD
    ),
    "coding in HTTP/1.0": Case(
        "m6.1", post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"1.0"), BAD
    ),
    "chunks": Case("m7.1", chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), OK, b"hello!"),
    "chunk size in capitals": Case(
        "m7.1", chunked(b"A\r\nhelloworld\r\n0\r\n\r\n"), OK, b"helloworld"
    ),
    "chunk extension": Case(
        "m7.1.1", chunked(b'5;a=b;c="d;\\"e"\r\nhello\r\n0\r\n\r\n'), OK, b"hello", lacks=b"a=b"
    ),
    "endless chunk extension": Case("m7.1.1", chunked(b"5;" + b"a" * 70000), (400, 413, 431)),
    "chunk size overflow": Case("m7.1", chunked(b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n"), BAD),
    "chunk without its end": Case("m7.1", chunked(b"5\r\nhello0\r\n\r\n"), BAD),
    "chunk longer than its size": Case("m7.1", chunked(b"5\r\nhello!!\r\n0\r\n\r\n"), BAD),
    "no last chunk": Case("m8", chunked(b"5\r\nhello\r\n"), BAD, lacks=b"\r\n0\r\n\r\n"),
    "trailer": Case(
        "m7.1.2", chunked(b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"), OK, b"hello", has=b"A: b\r\n\r\n"
    ),
    "trailer that routes": Case(
        "h6.5.1",
        chunked(b"5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n"),
        OK,
        b"hello",
        lacks=b"evil",
    ),
    "trailer that authorises": Case(
        "h6.5.1", chunked(b"5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n"), OK, lacks=b"uthorization"
    ),
    "trailer that frames": Case(
        "h6.5.1", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"), BAD
    ),
    "GET with a body": Case("h9.3.1", get(FIVE) + b"hello", OK, b"hello"),
    "OPTIONS with a body": Case(
        "h9.3.7", get(FIVE, b"OPTIONS /a HTTP/1.1") + b"hello", OK, b"hello"
    ),
    "HEAD gets no body": Case("h9.3.2", get(line=b"HEAD /a HTTP/1.1"), OK),
    "hop-by-hop fields end": Case(
        "h7.6.1",
        get(b"Connection: close, X-A\r\nX-A: b\r\nKeep-Alive: c\r\nTE: d\r\n"),
        OK,
        lacks=b"X-A",
    ),
    "Max-Forwards is lowered": Case(
        "h7.6.2",
        get(b"Max-Forwards: 5\r\n", b"OPTIONS /a HTTP/1.1"),
        OK,
        has=b"Max-Forwards: 4\r\n",
    ),
    "Max-Forwards of zero": Case(
        "h7.6.2", get(b"Max-Forwards: 0\r\n", b"OPTIONS /a HTTP/1.1"), (501,), lacks=b"OPTIONS"
    ),
    "TRACE that ends here": Case(
        "h7.6.2", get(b"Max-Forwards: 0\r\n", b"TRACE /a HTTP/1.1"), (501,), lacks=b"TRACE"
    ),
    "Max-Forwards that is no number": Case(
        "h7.6.2", get(b"Max-Forwards: x\r\n", b"OPTIONS /a HTTP/1.1"), OK, has=b"-Forwards: x\r\n"
    ),
    "HTTP/1.0 goes on as 1.1": Case(
        "m2.3", get(line=b"GET /a HTTP/1.0"), OK, has=b"GET /a HTTP/1.1\r\n"
    ),
    "Via is added": Case("h7.6.3", get(b"Via: 1.0 a\r\n"), OK, has=b"Via: 1.0 a, 1.1 onetrip\r\n"),
    "Expect in HTTP/1.0": Case(
        "h10.1.1", post(FIVE + b"Expect: 100-continue\r\n", b"hello", b"1.0"), OK, lacks=b"Expect"
    ),
    "Expect in HTTP/1.1": Case(
        "h10.1.1", post(FIVE + b"Expect: 100-continue\r\n", b"hello"), OK, b"hello", has=b"Expect"
    ),
    "upgrade without Connection": Case("h7.8", get(WS), OK, lacks=b"pgrade"),
    "upgrade in HTTP/1.0": Case(
        "h7.8", get(b"Connection: Upgrade\r\n" + WS, b"GET /a HTTP/1.0"), OK, lacks=b"pgrade"
    ),
    "upgrade with a body": Case(
        "h7.8",
        post(b"Connection: Upgrade\r\n" + WS + FIVE, b"hello"),
        OK,
        b"hello",
        lacks=b"pgrade",
    ),
    "upgrade to an unknown protocol": Case(
        "h7.8", get(b"Connection: Upgrade\r\nUpgrade: made-up/1\r\n"), OK, has=b"Upgrade: made-up/1"
    ),
    "upgrade to HTTP/2 in clear": Case(
        "h7.8", get(b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), OK, lacks=b"h2c"
    ),
}


async def echo(connection):
    """Answer each request with its body, chunks and trailers as they came."""
    while head := await connection.read_head():
        length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", head)
        body = await connection.read_exactly(int(length[1])) if length else b""
        if b"\r\nTransfer-Encoding: chunked\r\n" in head:
            while not re.search(rb"(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n$", body):
                if not (more := await connection.read(65536)):
                    return
                body += more
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        await connection.send(answer if head.startswith(b"HEAD") else answer + body)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_case(case: Case):
    async with (
        FakeUpstream(echo) as upstream,
        one_region(upstream.endpoint, settings=QUICK) as rig,
        rig.client() as client,
    ):
        await client.send(case.data)
        client.writer.write_eof()
        response = await client.response(case.data.split(b" ", 1)[0])
        while response.status < 200:
            response = await client.response()
        assert response.status in case.statuses
        if case.statuses == OK:
            assert upstream.count_requests() <= 1
            assert case.has in upstream.received
        else:
            # Refused: the connection ends, and the application saw no complete request.
            is_kept = response.status in (404, 501)  # read whole, so the connection is still good
            assert response.header("Connection") == ["close"] or is_kept
            assert await client.is_closed()
            assert rig.lines[-1]["status"] == response.status
        if case.body is not None:
            assert case.body in (response.body, unchunk(response.body))
        if case.lacks:
            assert case.lacks not in upstream.received


def unchunk(data: bytes) -> bytes:
    """Return the payload of the chunks that the echo gave back."""
    payload = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        if not size or any(c not in b"0123456789abcdef" for c in size):
            return b"no chunks"
        payload, data = payload + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if size == b"0":
            break
    return payload
