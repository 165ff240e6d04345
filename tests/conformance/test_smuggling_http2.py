"""No request is smuggled in through HTTP/2: a stream becomes one HTTP/1.1 request, or none.

Every field of a request is disturbed by odd bytes, and by what would be a new line, a new request
or another framing once written as HTTP/1.1. Source of the techniques: J. Kettle, "HTTP/2: The
Sequel is Always Worse" (2021); RFC 9113 sections 8.2, 8.3 and 10.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

from hpack import Encoder

from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.wire.http2 import PREFACE
from support.certs import Authority
from support.http2_client import DATA, HEADERS, SETTINGS, Http2Client, frame
from support.judgement import judge_forwarded
from support.mutations import ODD_BYTES
from support.proxy_rig import one_region
from support.recorder import Recorder
from support.referees import Referee, ask_llhttp, running_nginx, running_node
from support.results import report_cases

Pairs = list[tuple[bytes, bytes]]

END_STREAM, END_HEADERS = 1, 4
EVIL = b"GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n"
WEBSOCKET = "websocket by CONNECT"
"""Is forwarded as a GET, which nginx answers with a page: the client gets a 502 for that."""
FORBIDDEN = (b"\r", b"\n", b"\0")
"""Bytes that no name or value may hold (RFC 9113 section 8.2.1)."""


def request(path: bytes, method: bytes = b"POST", more: Pairs | None = None) -> Pairs:
    fields = [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"shop.test"),
        (b":path", path),
    ]
    return fields + (more or [])


def with_field(name: bytes, value: bytes) -> Pairs:
    """Return a request one of whose pseudo-fields is another."""
    return [(n, value if n == name else v) for n, v in request(b"/a")]


def cases() -> dict[str, tuple[Pairs, bytes]]:
    """Return, by name, a field list and a body."""
    found: dict[str, tuple[Pairs, bytes]] = {}
    for byte in ODD_BYTES:
        odd, at = bytes([byte]), f"{byte:#04x}"
        found |= {
            f"{at} in :method": (with_field(b":method", b"PO" + odd + b"ST"), b""),
            f"{at} in :path": (with_field(b":path", b"/a" + odd + b"b"), b""),
            f"{at} in :authority": (with_field(b":authority", b"shop.test" + odd + b"x"), b""),
            f"{at} in :scheme": (with_field(b":scheme", b"https" + odd), b""),
            f"{at} in a name": (request(b"/a", more=[(b"x" + odd + b"y", b"z")]), b""),
            f"{at} for a name": (request(b"/a", more=[(odd, b"z")]), b""),
            f"{at} in a value": (request(b"/a", more=[(b"x", b"y" + odd + b"z")]), b""),
            f"{at} before a value": (request(b"/a", more=[(b"x", odd + b"z")]), b""),
            f"{at} after a value": (request(b"/a", more=[(b"x", b"z" + odd)]), b""),
        }
    line = b"\r\nTransfer-Encoding: chunked"
    new = b" HTTP/1.1\r\nHost: shop.test\r\n\r\n" + EVIL
    for name in (b":method", b":path", b":authority", b":scheme"):
        before = dict(request(b"/a"))[name]
        found[f"line after {name.decode()}"] = (with_field(name, before + line), EVIL)
        found[f"request after {name.decode()}"] = (with_field(name, before + new), b"")
        found[f"no {name.decode()}"] = ([p for p in request(b"/a") if p[0] != name], b"")
        found[f"empty {name.decode()}"] = (with_field(name, b""), b"")
        found[f"two {name.decode()}"] = ([(name, before), *request(b"/a")], b"")
    extra: dict[str, Pairs] = {
        "coding": [(b"transfer-encoding", b"chunked")],
        "coding in capitals": [(b"Transfer-Encoding", b"chunked")],
        "coding after a line in a value": [(b"x", b"y" + line)],
        "coding after a line in a name": [(b"x: y\r\ntransfer-encoding", b"chunked")],
        "coding with a colon": [(b"transfer-encoding: chunked\r\nx", b"y")],
        "coding as a pseudo-field": [(b":transfer-encoding", b"chunked")],
        "underscored coding": [(b"transfer_encoding", b"chunked")],
        "connection": [(b"connection", b"keep-alive")],
        "upgrade": [(b"upgrade", b"h2c")],
        "TE": [(b"te", b"chunked")],
        "another host": [(b"host", b"evil.test")],
        "two hosts": [(b"host", b"shop.test"), (b"host", b"evil.test")],
        "a late pseudo-field": [(b"x", b"y"), (b":path", b"/evil")],
        "an empty name": [(b"", b"y")],
        "length too small": [(b"content-length", b"1")],
        "length zero": [(b"content-length", b"0")],
        "length too large": [(b"content-length", b"1000")],
        "two lengths": [(b"content-length", b"%d" % len(EVIL)), (b"content-length", b"0")],
        "length with a plus": [(b"content-length", b"+%d" % len(EVIL))],
        "length with a line": [(b"content-length", b"0\r\n\r\n" + EVIL)],
        "underscored length": [(b"content_length", b"0")],
        "trace parent with a line": [(b"traceparent", b"00-" + b"a" * 32 + line)],
        "forwarded with a line": [(b"x-forwarded-for", b"a" + line)],
        "request id with a line": [(b"x-request-id", b"a" + line)],
        "cookie with a line": [(b"cookie", b"a=b"), (b"cookie", b"c=d" + line)],
        "via with a line": [(b"via", b"1.1 a" + line)],
        "expect": [(b"expect", b"100-continue")],
    }
    for name, fields in extra.items():
        found[name] = (request(b"/a", more=fields), EVIL)
    for method in (b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE"):
        found[f"{method.decode()} with a body"] = (request(b"/a", method), EVIL)
    found[WEBSOCKET] = (
        request(b"/a", b"CONNECT", [(b":protocol", b"websocket")]),
        EVIL,
    )
    return {name: (_at(fields, n), body) for n, (name, (fields, body)) in enumerate(found.items())}


def _at(fields: Pairs, number: int) -> Pairs:
    """Give a case a path of its own."""
    path = b"/c%05d" % number
    return [(n, path + v[2:] if n == b":path" and v.startswith(b"/a") else v) for n, v in fields]


async def send(port: int, context, fields: Pairs, body: bytes) -> Http2Client:
    """Send one request as it is and read until its stream or the connection ends."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="shop.test"
    )
    client = Http2Client(reader, writer)
    client.h2.initiate_connection()
    client.h2.data_to_send()  # the library would refuse what is sent here, so it only listens
    client.h2.get_next_available_stream_id()
    client.h2.send_headers(1, [(":method", "POST"), (":path", "/")], end_stream=True)
    client.h2.data_to_send()
    block = Encoder().encode(fields)
    flags = END_HEADERS if body else END_HEADERS | END_STREAM
    data = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, flags, 1, block)
    if body:
        data += frame(DATA, END_STREAM, 1, body)
    await client.raw(data)
    with contextlib.suppress(ConnectionError):
        await client.answer(1)
    writer.close()
    return client


def complain(name: str, fields: Pairs, client: Http2Client) -> str | None:
    """Return what is wrong with what a client saw."""
    answer = client.seen(1)
    path = dict(fields).get(b":path", b"")
    seen = re.fullmatch(r"[^ ]+ ([^ ]+)", answer.headers.get("x-seen", ""))
    if seen is not None and seen[1].encode("latin-1") != path:
        return f"{name}: answered for {seen[1]}"
    is_refused = client.is_closed or answer.reset is not None or 400 <= answer.status < 600
    if any(byte in part for pair in fields for part in pair for byte in FORBIDDEN):
        return None if is_refused and seen is None else f"{name}: was forwarded"
    return None if is_refused or seen is not None else f"{name}: answered {answer}"


async def test_nothing_is_smuggled_through_http2(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("web", "shop.test")
    served = CertificateSet([load_certificate(pair.cert, pair.key, protocols=("h2", "http/1.1"))])
    context = authority.client_context()
    context.set_alpn_protocols(["h2"])
    wrong: list[str] = []
    async with (
        running_nginx() as nginx,
        running_node() as node,
        Recorder(nginx) as recorder,
        one_region(recorder.endpoint, certificates=served) as rig,
    ):
        for name, (fields, body) in cases().items():
            client = await send(rig.tls_port, context, fields, body)
            complaint = complain(name, fields, client)
            wrong += [complaint] if complaint else []
        referees: dict[str, Referee] = {"llhttp": ask_llhttp}
        if node is not None:
            referees["Node"] = node
        forwarded, differing = await judge_forwarded(recorder, referees)
        wrong += differing
        websocket = dict(cases()[WEBSOCKET][0])[b":path"].decode()
        booked = [
            (line["method"], line["path"])
            for line in rig.lines
            if line["upstream"] and (line["error"] is None or line["path"] == websocket)
        ]
    report_cases(
        "Smuggling over HTTP/2",
        "tests/conformance/test_smuggling_http2.py; read back by h11, nginx, "
        + ", ".join(sorted(referees)),
        len(cases()),
        wrong,
        note=f"{len(booked)} forwarded, the rest refused",
    )
    assert wrong == []
    assert sorted(forwarded) == sorted(booked)
    assert 50 < len(booked) < len(cases()) - 100
