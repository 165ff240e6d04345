"""Request smuggling: whatever a client sends, upstream never sees a request that routing did not.

Every case hides `GET /evil` where some server would look for a second request. The upstream here
counts request lines in the raw bytes it was sent, so a case fails however the request got there.

Source: the techniques of J. Kettle, "HTTP Desync Attacks" (2019, 2022), and RFC 9112 section 11.2.
"""

from __future__ import annotations

import pytest

from support.fake_upstream import OK, FakeUpstream
from support.proxy_rig import one_region

EVIL = b"GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n"
HOST = b"Host: shop.test\r\n"


def post(fields: bytes, body: bytes, path: bytes = b"/a") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


CL = b"Content-Length: %d\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"
WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL)

OBFUSCATED = [
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \x00chunked",
    b" Transfer-Encoding: chunked",
    b"X: x\nTransfer-Encoding: chunked",
    b"X: x\rTransfer-Encoding: chunked",
    b"Transfer-Encoding\n: chunked",
    b"Transfer-Encoding: chunked\x85",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: cHuNkEd",
    b"transfer-encoding: chunked",
    b"Content-Encoding: chunked",
    b"Foo: bar\r\n\tTransfer-Encoding: chunked",
    b"Transfer-\xc3\xa9ncoding: chunked",
    b"Transfer%2DEncoding: chunked",
]

CASES = {
    "CL.TE": post(CL % (len(END) + len(EVIL)) + TE, END + EVIL),
    "TE.CL": post(TE + CL % 4, WHOLE),
    "TE.TE": post(TE + TE, END + EVIL),
    "CL.CL smaller first": post(CL % 0 + CL % len(EVIL), EVIL),
    "CL.CL larger first": post(CL % len(EVIL) + CL % 0, EVIL),
    "CL list": post(b"Content-Length: 0, %d\r\n" % len(EVIL), EVIL),
    "CL plus": post(b"Content-Length: +%d\r\n" % len(EVIL), EVIL),
    "CL minus": post(b"Content-Length: -1\r\n", EVIL),
    "CL hex": post(b"Content-Length: 0x%x\r\n" % len(EVIL), EVIL),
    "CL padded": post(b"Content-Length: 0 \r\n", b""),
    "CL underscore": post(b"Content_Length: %d\r\n" % len(EVIL) + CL % 0, b""),
    "CL space before colon": post(b"Content-Length : %d\r\n" % len(EVIL), EVIL),
    "CL overflow": post(b"Content-Length: 18446744073709551617\r\n", b"a" + EVIL),
    "CL named in Connection": post(CL % len(EVIL) + b"Connection: Content-Length\r\n", EVIL),
    "TE named in Connection": post(TE + b"Connection: Transfer-Encoding\r\n", WHOLE),
    "CL.0": post(CL % len(EVIL), EVIL),
    "GET with a body": b"GET /a HTTP/1.1\r\n" + HOST + CL % len(EVIL) + b"\r\n" + EVIL,
    "Expect with a body": post(CL % len(EVIL) + b"Expect: 100-continue\r\n", EVIL),
    "Expect obfuscated": post(CL % len(EVIL) + b"Expect: y 100-continue\r\n", EVIL),
    "HTTP/1.0 chunked": post(TE, WHOLE).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "chunk size with sign": post(TE, b"+%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL)),
    "chunk size with prefix": post(TE, b"0x0\r\n\r\n" + EVIL),
    "chunk size with space": post(TE, b"0 \r\n\r\n" + EVIL),
    "chunk size overflow": post(TE, b"10000000000000000\r\n" + EVIL),
    "chunk line ends with LF": post(TE, b"2\nxx\r\n0\r\n\r\n" + EVIL),
    "chunk extension with LF": post(TE, b"2;\nxx\r\n%x\r\n" % len(EVIL) + EVIL + b"\r\n" + END),
    "chunk extension with CR": post(TE, b"2;a\rb\r\nxx\r\n" + END + EVIL),
    "chunk data too long": post(TE, b"1\r\n" + EVIL + b"\r\n" + END),
    "chunk ends with LF": post(TE, b"1\r\na\n0\r\n\r\n" + EVIL),
    "chunk ends with CR": post(TE, b"1\r\na\r0\r\n\r\n" + EVIL),
    "trailer with a length": post(TE, b"0\r\nContent-Length: %d\r\n\r\n" % len(EVIL)),
    "trailer with bare LF": post(TE, b"0\r\nA: b\n\n" + EVIL),
    "bare LF head": (b"POST /a HTTP/1.1\n" + HOST + b"\n" + EVIL).replace(b"\r\n", b"\n"),
    "space in target": b"GET /a HTTP/1.1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "LF in target": b"GET /a\nGET /evil HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in head": post(CL % 0 + b"A: \x00\r\n", b""),
    "upgrade to h2c": post(
        CL % 0 + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", b""
    ),
    "refused upgrade": b"GET /a HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    + CL % len(EVIL)
    + b"\r\n"
    + EVIL,
    **{
        f"obfuscated TE {i}": post(CL % (len(END) + len(EVIL)) + line + b"\r\n", END + EVIL)
        for i, line in enumerate(OBFUSCATED)
    },
    **{
        f"obfuscated TE without CL {i}": post(line + b"\r\n", WHOLE)
        for i, line in enumerate(OBFUSCATED)
    },
}


def heads_of(raw: bytes) -> list[bytes]:
    """Return the request lines a strict server sees in `raw`, by its own framing."""
    lines = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        lines.append(head.split(b"\r\n")[0])
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            assert b"\r\ncontent-length:" not in lower
            while raw:
                size, _, raw = raw.partition(b"\r\n")
                raw = raw[int(size, 16) + 2 :]
                if int(size, 16) == 0:
                    break
        elif b"\r\ncontent-length: " in lower:
            assert lower.count(b"\r\ncontent-length:") == 1
            raw = raw[int(lower.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]) :]
    return lines


@pytest.mark.parametrize("data", CASES.values(), ids=CASES.keys())
async def test_hidden_request_never_becomes_one_upstream(data):
    async def answer_everything(connection):
        while chunk := await connection.read(65536):
            if b"\r\n\r\n" in chunk:
                await connection.send(OK)

    async with (
        FakeUpstream(answer_everything) as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        await client.send(data)
        await client.response(data.split(b" ", 1)[0])
        client.writer.write_eof()
        await client.rest()
        for connection in upstream.connections:
            lines = heads_of(connection.received)
            hidden = [line for line in lines if b"/evil" in line]
            # A request after a complete one is no smuggling: we saw it, and routed it.
            seen = [line for line in rig.lines if line["path"] == "/evil"]
            assert len(hidden) <= len(seen), lines


@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("CL.TE", "TE.CL", "TE.TE", "CL.CL"))]
)
async def test_ambiguous_request_reaches_no_upstream_at_all(name):
    async with (
        FakeUpstream() as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        await client.send(CASES[name])
        response = await client.response()
        assert (response.status, response.header("Connection")) == (400, ["close"])
        assert await client.is_closed()
        assert upstream.connections == []
