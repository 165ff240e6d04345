"""Requests that two HTTP/1 readers could read differently: the corpus of the smuggling suite.

Every case hides `GET /evil` where some reader would look for a second request, or disturbs one
place of a message with one odd byte. The bytes are made here; the techniques were found by others:

* kettle19: J. Kettle, "HTTP Desync Attacks: Request Smuggling Reborn" (2019)
* klein20: A. Klein, "HTTP Request Smuggling in 2020"
* kettle22: J. Kettle, "Browser-Powered Desync Attacks" (2022): CL.0, early responses
* grenfeldt21: M. Grenfeldt, A. Olofsson, "HTTP Request Smuggling Attacks" survey (2021)
* garden: K. Kallus et al., "The HTTP Garden" (2024): line ends, signs and prefixes of sizes
* te0: "Unveiling TE.0 HTTP Request Smuggling" (2024)
* funky: J. Bonde Weikop, "Funky chunks" (2025): line ends inside chunk extensions, spills
* kettle25: J. Kettle, "HTTP/1.1 must die: the desync endgame" (2025): 0.CL, Expect
* smuggler: the gadget positions of github.com/defparam/smuggler (MIT)
* scanner: the permutation classes of github.com/PortSwigger/http-request-smuggler
* probe: the case classes of github.com/MDA2AV/Http11Probe (MIT)
* rfc: RFC 9112 sections 2.2, 3, 5, 6, 7 and 11.2
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HOST = b"Host: shop.test\r\n"
TE = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

ODD_BYTES = bytes(
    [*range(0x21), *b"\"',-:;\\_", 0x7F, 0x80, 0x85, 0x8A, 0x8D, 0xA0, 0xAD, 0xC2, 0xFE, 0xFF]
)
"""Controls, white space, delimiters, and bytes that become those when a high bit or a UTF-8 tail
is lost (0x8A, 0x8D are LF, CR with the high bit; 0x85, 0xA0, 0xAD are odd spaces of Latin-1)."""

LINE_ENDS = {"LF": b"\n", "CR": b"\r", "CRCRLF": b"\r\r\n", "LFCR": b"\n\r", "CRLFLF": b"\r\n\n"}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One case.

    Attributes:
        name: what it is, unique.
        source: who described it, see the module's docstring.
        data: what the client sends before it ends its side.
        is_forbidden: its framing has no meaning that all readers share, so it must be refused.
    """

    name: str
    source: str
    data: bytes
    is_forbidden: bool = False


def mutations() -> list[Mutation]:
    """Return the whole corpus; each case has paths of its own, `/c<number>` and `/evil<number>`."""
    makers = (
        _coding_bytes,
        _coding_lines,
        _length_bytes,
        _length_values,
        _chunk_bytes,
        _chunk_lines,
        _line_ends,
        _request_line_bytes,
        _hosts,
        _bodies,
        _trailers,
    )
    found = [case for make in makers for case in make()]
    return [_numbered(case, number) for number, case in enumerate(found)]


def _numbered(case: Mutation, number: int) -> Mutation:
    # A case must not change in length: Content-Length counts its hidden request.
    own, evil = b"/c%05d" % number, b"/evil%05d" % number
    data = case.data.replace(b"/c-----", own).replace(b"/evil-----", evil)
    return Mutation(case.name, case.source, data, case.is_forbidden)


EVIL = b"GET /evil----- HTTP/1.1\r\n" + HOST + b"\r\n"
WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL)


def _post(fields: bytes, body: bytes, line: bytes = b"POST /c----- HTTP/1.1\r\n") -> bytes:
    return line + HOST + fields + b"\r\n" + body


def _length(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


def _shapes(name: str, source: str, field: bytes) -> Iterator[Mutation]:
    """Frame one odd Transfer-Encoding line in the three ways in which it could matter."""
    after = END + EVIL
    yield Mutation(f"{name}, CL.TE", source, _post(_length(len(after)) + field + b"\r\n", after))
    yield Mutation(f"{name}, TE.CL", source, _post(field + b"\r\n" + _length(4), WHOLE))
    yield Mutation(f"{name}, TE alone", source, _post(field + b"\r\n", WHOLE))


def _coding_bytes() -> Iterator[Mutation]:
    for byte in ODD_BYTES:
        odd = bytes([byte])
        places = {
            "before the name": odd + TE,
            "inside the name": b"Transfer" + odd + b"Encoding: chunked",
            "before the colon": b"Transfer-Encoding" + odd + b": chunked",
            "for the space": b"Transfer-Encoding:" + odd + b"chunked",
            "before the value": b"Transfer-Encoding: " + odd + b"chunked",
            "after the value": TE + odd,
            "inside another line": b"X: x" + odd + TE,
            "before another line": TE + odd + b"X: x",
        }
        for place, field in places.items():
            yield from _shapes(f"coding with {byte:#04x} {place}", "smuggler, scanner", field)


def _coding_lines() -> Iterator[Mutation]:
    fields = {
        "unknown coding": b"Transfer-Encoding: xchunked",
        "part of the coding": b"Transfer-Encoding: chunk",
        "identity": b"Transfer-Encoding: identity",
        "identity after": b"Transfer-Encoding: chunked, identity",
        "identity before": b"Transfer-Encoding: identity, chunked",
        "gzip before": b"Transfer-Encoding: gzip, chunked",
        "chunked twice": b"Transfer-Encoding: chunked, chunked",
        "list with an empty start": b"Transfer-Encoding: , chunked",
        "list with an empty end": b"Transfer-Encoding: chunked,",
        "parameter": b"Transfer-Encoding: chunked;a=b",
        "quality": b"Transfer-Encoding: chunked;q=0",
        "double quotes": b'Transfer-Encoding: "chunked"',
        "single quotes": b"Transfer-Encoding: 'chunked'",
        "words around": b"Transfer-Encoding: x chunked y",
        "empty": b"Transfer-Encoding:",
        "two lines": TE + b"\r\n" + TE,
        "two lines, odd first": b"Transfer-Encoding: x\r\n" + TE,
        "two lines, odd last": TE + b"\r\nTransfer-encoding: x",
        "two lines, empty last": TE + b"\r\nTransfer-Encoding:",
        "odd case": b"TrAnSfEr-EnCoDiNg: cHuNkEd",
        "capitals": b"TRANSFER-ENCODING: CHUNKED",
        "no space": b"Transfer-Encoding:chunked",
        "fold before": b"Transfer-Encoding:\r\n chunked",
        "fold with tab": b"Transfer-Encoding:\r\n\tchunked",
        "fold after": TE + b"\r\n , identity",
        "two folds": b"Transfer-Encoding:\r\n \r\n chunked",
        "bare LF fold": b"Transfer-Encoding:\n chunked",
        "bare CR fold": b"Transfer-Encoding:\r chunked",
        "folded into another line": b"X: x\r\n " + TE,
        "underscore": b"Transfer_Encoding: chunked",
        "backslash": b"Transfer\\Encoding: chunked",
        "percent": b"Transfer%2DEncoding: chunked",
        "junk before the colon": b"Transfer-Encoding x: chunked",
        "accent in the name": b"Transf\xe9r-Encoding: chunked",
        "accent in the value": b"Transfer-Encoding: ch\xfanked",
        "UTF-8 letters": "Tr\u0430nsfer-Encoding: chunked".encode(),
        "long s": "Tran\u017ffer-Encoding: chunked".encode(),
        "Kelvin sign": "Transfer-Encoding: chun\u212aed".encode(),
        "encoded word": b"Transfer-Encoding: =?utf-8?B?Y2h1bmtlZA==?=",
        "content coding": b"Content-Encoding: chunked",
        "named in Connection": TE + b"\r\nConnection: Transfer-Encoding",
        "hop list": TE + b"\r\nConnection: close, Transfer-Encoding, Content-Length",
        "TE for it": b"TE: chunked\r\n" + TE,
    }
    for name, field in fields.items():
        yield from _shapes(f"coding: {name}", "kettle19, klein20, scanner", field)


def _length_bytes() -> Iterator[Mutation]:
    size = b"%d" % len(EVIL)
    for byte in ODD_BYTES:
        odd = bytes([byte])
        places = {
            "before the name": odd + b"Content-Length: " + size,
            "inside the name": b"Content" + odd + b"Length: " + size,
            "before the colon": b"Content-Length" + odd + b": " + size,
            "for the space": b"Content-Length:" + odd + size,
            "before the value": b"Content-Length: " + odd + size,
            "inside the value": b"Content-Length: " + size[:1] + odd + size[1:],
            "after the value": b"Content-Length: " + size + odd,
        }
        for place, field in places.items():
            name = f"length with {byte:#04x} {place}"
            yield Mutation(name, "scanner, garden", _post(field + b"\r\n", EVIL))
            yield Mutation(
                f"{name}, and a plain one", "klein20", _post(field + b"\r\n" + _length(0), EVIL)
            )


def _length_values() -> Iterator[Mutation]:
    size = len(EVIL)
    values = {
        "plus": b"+%d" % size,
        "minus": b"-%d" % size,
        "minus zero": b"-0",
        "hex": b"0x%x" % size,
        "octal": b"0o%o" % size,
        "exponent": b"%de0" % size,
        "fraction": b"%d.0" % size,
        "list of equals": b"%d, %d" % (size, size),
        "list of others": b"0, %d" % size,
        "list with an empty start": b", %d" % size,
        "list with an empty end": b"%d," % size,
        "digit group": b"1_0",
        "two numbers": b"%d %d" % (size, size),
        "over 64 bit": b"18446744073709551616",
        "over 64 bit by the size": b"%d" % (2**64 + size),
        "over 32 bit by the size": b"%d" % (2**32 + size),
        "empty": b"",
        "letter": b"%dx" % size,
        "Arabic digits": "\u0665".encode(),
        "full-width digits": "\uff15".encode(),
        "quotes": b'"%d"' % size,
    }
    for name, value in values.items():
        field = b"Content-Length: " + value + b"\r\n"
        # More bytes than any of these values announces would be a request of their own.
        is_forbidden = name != "over 32 bit by the size"
        yield Mutation(f"length: {name}", "garden, probe", _post(field, EVIL), is_forbidden)
    pairs = {
        "smaller first": _length(0) + _length(size),
        "larger first": _length(size) + _length(0),
        "twice the same": _length(size) + _length(size),
    }
    for name, fields in pairs.items():
        yield Mutation(f"two lengths: {name}", "rfc", _post(fields, EVIL), True)
    for name, value in {"leading zeros": b"000%d" % size, "many zeros": b"0" * 30}.items():
        yield Mutation(f"length: {name}", "probe", _post(b"Content-Length: %b\r\n" % value, EVIL))
    line = TE + b"\r\n"
    end = _length(len(END) + size)
    yield Mutation("CL.TE", "kettle19", _post(end + line, END + EVIL), True)
    yield Mutation("TE.CL", "kettle19", _post(line + _length(4), WHOLE), True)
    yield Mutation("0.CL", "kettle25", _post(line + _length(0), END + EVIL), True)


def _chunked(body: bytes) -> bytes:
    return _post(TE + b"\r\n", body)


def _chunk_bytes() -> Iterator[Mutation]:
    for byte in ODD_BYTES:
        odd = bytes([byte])
        places = {
            "before the size": odd + b"2\r\nxx\r\n" + END,
            "after the size": b"2" + odd + b"\r\nxx\r\n" + END,
            "inside the size": b"0" + odd + b"2\r\nxx\r\n" + END,
            "for the line end": b"2" + odd + b"xx\r\n" + END,
            "in an extension": b"2;a" + odd + b"b\r\nxx\r\n" + END,
            "in a quoted extension": b'2;a="b' + odd + b'c"\r\nxx\r\n' + END,
            "after the data": b"2\r\nxx" + odd + b"\r\n" + END,
            "for the data's line end": b"2\r\nxx" + odd + END,
            "after the last size": b"2\r\nxx\r\n0" + odd + b"\r\n\r\n",
            "before the final line": b"2\r\nxx\r\n0\r\n" + odd + b"\r\n",
            "in a trailer": b"2\r\nxx\r\n0\r\nA: b" + odd + b"c\r\n\r\n",
            "in a trailer's name": b"2\r\nxx\r\n0\r\nA" + odd + b"c: d\r\n\r\n",
        }
        for place, body in places.items():
            yield Mutation(
                f"chunk with {byte:#04x} {place}", "funky, garden", _chunked(body + EVIL)
            )


def _chunk_lines() -> Iterator[Mutation]:
    hidden = b"%x\r\n" % len(EVIL) + EVIL + b"\r\n" + END
    bodies = {
        "plus": b"+2\r\nxx\r\n" + END,
        "minus": b"-2\r\nxx\r\n" + END,
        "hex prefix": b"0x2\r\nxx\r\n" + END,
        "capital hex prefix": b"0X2\r\nxx\r\n" + END,
        "underscore": b"0_2\r\nxx\r\n" + END,
        "17 digits": b"00000000000000002\r\nxx\r\n" + END,
        "over 64 bit": b"10000000000000002\r\nxx\r\n" + END,
        "64 bit": b"ffffffffffffffff\r\nxx\r\n" + END,
        "63 bit": b"7fffffffffffffff\r\nxx\r\n" + END,
        "empty size": b"\r\nxx\r\n" + END,
        "no size, an extension": b";a\r\nxx\r\n" + END,
        "empty extension": b"2;\r\nxx\r\n" + END,
        "LF in an extension": b"2;\nxx\r\n" + hidden,
        "LF in a quoted extension": b'2;a="\nxx\r\n' + hidden,
        "CR in an extension": b"2;\rxx\r\n" + hidden,
        "spill": b"1\r\nxx\r\n" + hidden,
        "spill of two": b"2\r\nxxyy" + hidden,
        "data without its line end": b"2\r\nxx" + END,
        "LF for a line end": b"2\nxx\n0\n\n",
        "LF after the size": b"2\nxx\r\n" + END,
        "LF after the data": b"2\r\nxx\n" + END,
        "CR after the size": b"2\rxx\r\n" + END,
        "end without its line": b"2\r\nxx\r\n0\r\n",
        "end with LF": b"2\r\nxx\r\n0\r\n\n",
        "end with CR": b"2\r\nxx\r\n0\r\n\r",
        "zeros for the end": b"2\r\nxx\r\n0000\r\n\r\n",
        "zero with an extension": b"2\r\nxx\r\n0;a=b\r\n\r\n",
        "two ends": b"2\r\nxx\r\n" + END + END,
        "size above the data": b"ff\r\nxx\r\n" + END,
        "long extension": b"2;" + b"a" * 300 + b"\r\nxx\r\n" + END,
    }
    for name, body in bodies.items():
        yield Mutation(f"chunk: {name}", "funky, garden, probe", _chunked(body + EVIL))
    after = END + EVIL
    yield Mutation("TE.0", "te0", _chunked(WHOLE).replace(b"POST", b"OPTIONS", 1))
    old = b"POST /c----- HTTP/1.0\r\n"
    both = _length(len(after)) + TE + b"\r\n"
    yield Mutation("HTTP/1.0 chunked", "rfc", _post(TE + b"\r\n", WHOLE, old), True)
    yield Mutation("HTTP/1.0 CL.TE", "rfc", _post(both, after, old), True)


def _line_ends() -> Iterator[Mutation]:
    plain = _post(b"A: b\r\n" + _length(len(EVIL)), EVIL)
    chunked = _chunked(b"2\r\nxx\r\n" + END) + EVIL
    for kind, message in {"length": plain, "chunked": chunked}.items():
        places = [at for at in range(len(message)) if message.startswith(b"\r\n", at)]
        for number, at in enumerate(places):
            for name, end in LINE_ENDS.items():
                data = message[:at] + end + message[at + 2 :]
                yield Mutation(f"{kind} message, {name} at line end {number}", "garden, rfc", data)
    yield Mutation("all bare LF", "rfc", plain.replace(b"\r\n", b"\n"), True)
    yield Mutation("empty line first", "rfc", b"\r\n" + plain)
    yield Mutation("two empty lines first", "probe", b"\r\n\r\n" + plain)
    yield Mutation("white space before the fields", "rfc", plain.replace(b"\r\n", b"\r\n \r\n", 1))


def _request_line_bytes() -> Iterator[Mutation]:
    rest = HOST + _length(len(EVIL)) + b"\r\n" + EVIL
    for byte in ODD_BYTES:
        odd = bytes([byte])
        places = {
            "before the method": odd + b"POST /c----- HTTP/1.1\r\n",
            "after the method": b"POST" + odd + b" /c----- HTTP/1.1\r\n",
            "for the first space": b"POST" + odd + b"/c----- HTTP/1.1\r\n",
            "in the target": b"POST /c-----" + odd + b"x HTTP/1.1\r\n",
            "for the second space": b"POST /c-----" + odd + b"HTTP/1.1\r\n",
            "in the version": b"POST /c----- HTTP/1." + odd + b"1\r\n",
            "after the version": b"POST /c----- HTTP/1.1" + odd + b"\r\n",
        }
        for place, line in places.items():
            yield Mutation(f"request line with {byte:#04x} {place}", "garden, probe", line + rest)
    lines = {
        "HTTP/0.9": b"GET /c-----\r\n",
        "second version": b"GET /c----- HTTP/1.1 HTTP/1.1\r\n",
        "line in the target": b"GET /c-----%0d%0aX:x HTTP/1.1\r\n",
        "fragment": b"GET /c-----#x HTTP/1.1\r\n",
        "lower-case version": b"GET /c----- http/1.1\r\n",
        "one-digit version": b"GET /c----- HTTP/1\r\n",
        "padded version": b"GET /c----- HTTP/01.1\r\n",
        "HTTP/1.2": b"GET /c----- HTTP/1.2\r\n",
        "preface of HTTP/2": b"PRI * HTTP/2.0\r\n",
        "lower-case method": b"get /c----- HTTP/1.1\r\n",
        "absolute form": b"GET http://shop.test/c----- HTTP/1.1\r\n",
        "absolute form of another host": b"GET http://evil.test/c----- HTTP/1.1\r\n",
        "absolute form with a user": b"GET http://shop.test@evil.test/c----- HTTP/1.1\r\n",
        "two slashes": b"GET //evil.test/c----- HTTP/1.1\r\n",
        "asterisk": b"GET * HTTP/1.1\r\n",
        "authority": b"GET shop.test:80 HTTP/1.1\r\n",
        "CONNECT": b"CONNECT shop.test:80 HTTP/1.1\r\n",
    }
    for name, line in lines.items():
        yield Mutation(f"request line: {name}", "probe, klein20", line + rest)


def _hosts() -> Iterator[Mutation]:
    end = _length(0) + b"\r\n" + EVIL
    for byte in ODD_BYTES:
        odd = bytes([byte])
        line = b"POST /c----- HTTP/1.1\r\n"
        for place, host in {
            "in the name": b"Ho" + odd + b"st: shop.test\r\n",
            "before the value": b"Host: " + odd + b"shop.test\r\n",
            "in the value": b"Host: shop.test" + odd + b"evil.test\r\n",
        }.items():
            yield Mutation(f"Host with {byte:#04x} {place}", "kettle19", line + host + end)
    for name, hosts in {
        "none": b"",
        "empty": b"Host:\r\n",
        "two": HOST + b"Host: evil.test\r\n",
        "two the same": HOST + HOST,
        "list": b"Host: shop.test, evil.test\r\n",
        "user": b"Host: a@shop.test\r\n",
        "path": b"Host: shop.test/x\r\n",
        "port and more": b"Host: shop.test:80.evil.test\r\n",
    }.items():
        line = b"POST /c----- HTTP/1.1\r\n"
        yield Mutation(f"Host: {name}", "rfc, probe", line + hosts + end, True)


def _bodies() -> Iterator[Mutation]:
    for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"TRACE", b"FOO"):
        line = method + b" /c----- HTTP/1.1\r\n"
        name = method.decode()
        yield Mutation(f"{name} with a body", "kettle22", _post(_length(len(EVIL)), EVIL, line))
        yield Mutation(f"{name} with chunks", "te0", _post(TE + b"\r\n", WHOLE, line))
        yield Mutation(f"{name} without a length", "kettle22", _post(b"", EVIL, line))
    size = _length(len(EVIL))
    fields = {
        "Expect": b"Expect: 100-continue\r\n",
        "Expect with junk": b"Expect: y 100-continue\r\n",
        "Expect twice": b"Expect: 100-continue\r\nExpect: 100-continue\r\n",
        "Expect unknown": b"Expect: 200-ok\r\n",
        "close": b"Connection: close\r\n",
        "length named in Connection": b"Connection: Content-Length\r\n",
        "Host named in Connection": b"Connection: Host\r\n",
        "keep-alive parameters": b"Connection: keep-alive\r\nKeep-Alive: timeout=1, max=1\r\n",
        "upgrade to h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "upgrade to websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 777\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "method override": b"X-HTTP-Method-Override: GET\r\n",
        "range": b"Range: bytes=0-0\r\n",
    }
    for name, extra in fields.items():
        yield Mutation(f"body and {name}", "kettle22, kettle25", _post(extra + size, EVIL))
        yield Mutation(f"no body and {name}", "kettle22", _post(extra + _length(0), EVIL))
    yield Mutation("two requests", "rfc", _post(_length(0), b"") + EVIL)
    yield Mutation("body shorter than its length", "rfc", _post(_length(len(EVIL) + 9), EVIL))
    yield Mutation("one byte more than the length", "kettle19", _post(_length(1), b"xX" + EVIL))


def _trailers() -> Iterator[Mutation]:
    for name in (b"Content-Length: 5", TE, b"Host: evil.test", b"Authorization: x", b"A: b"):
        body = b"2\r\nxx\r\n0\r\n" + name + b"\r\n\r\n"
        word = name.partition(b":")[0].decode()
        yield Mutation(f"trailer {word}", "probe", _chunked(body + EVIL))
    for title, section in {
        "space before the colon": b"A : b\r\n\r\n",
        "fold": b"A: b\r\n c\r\n\r\n",
        "no colon": b"A\r\n\r\n",
        "bare LF": b"A: b\n\n",
        "request line": EVIL,
    }.items():
        body = b"2\r\nxx\r\n0\r\n" + section
        yield Mutation(f"trailer: {title}", "garden", _chunked(body + EVIL))
