"""An application over HTTP/2 and the same one over HTTP/1.1 cannot be told apart by a client.

And the application sees the same request. What must differ is left out: framing, and the protocol
version in Via.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fake_http2_upstream import FakeHttp2Upstream
from support.fake_upstream import FakeUpstream
from support.proxy_rig import ProxyRig, one_region

Pairs = list[tuple[str, str]]

_NAMES = st.sampled_from(["x-a", "x-b", "accept", "set-cookie", "etag", "vary", "server-timing"])
_VALUES = st.text('abc ,;="/:*\t\xe9', max_size=12).map(str.strip)
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5)
_SMALL = st.one_of(st.binary(max_size=40), st.builds(bytes, st.sampled_from([1000, 16385])))
_BODIES = st.one_of(_SMALL, st.builds(bytes, st.sampled_from([16384, 70_000, 140_000])))


@dataclass
class Asked:
    """A request of a client."""

    method: str
    target: str
    fields: Pairs
    body: bytes
    is_chunked: bool

    def wire(self) -> bytes:
        """Return it as HTTP/1.1."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: shop.test"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        data = self.body
        if self.is_chunked:
            lines.append("Transfer-Encoding: chunked")
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            data = chunk + b"0\r\n\r\n"
        elif data:
            lines.append(f"Content-Length: {len(data)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


@dataclass
class Answered:
    """A response of the application."""

    status: int
    fields: Pairs
    body: bytes
    has_length: bool
    interims: list[int] = field(default_factory=list)


_ASKED = st.builds(
    Asked,
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
    st.sampled_from(["/", "/a?b=c", "/a%20b", "/very/long/" + "x" * 300]),
    _FIELDS,
    _SMALL,
    st.booleans(),
)
_ANSWERED = st.builds(
    Answered,
    st.sampled_from([200, 201, 204, 304, 301, 404, 500, 503]),
    _FIELDS,
    _BODIES,
    st.booleans(),
    st.lists(st.sampled_from([102, 103]), max_size=2),
)


class World:
    """Both applications, each behind a proxy, with one response to give."""

    def __init__(self) -> None:
        self.answer = Answered(200, [], b"", True)
        self.seen: list[tuple[object, ...]] = []
        self._stack = contextlib.AsyncExitStack()
        self._rigs: list[ProxyRig] = []

    async def start(self) -> None:
        """Run everything."""
        for fake in (FakeUpstream(self._http1), FakeHttp2Upstream(self._http2)):
            upstream = await self._stack.enter_async_context(fake)
            rig = await self._stack.enter_async_context(one_region(upstream.endpoint))
            self._rigs.append(rig)

    async def stop(self) -> None:
        """End everything."""
        await self._stack.aclose()

    async def compare(self, asked: Asked, answer: Answered) -> None:
        """Ask both and compare what either side sees."""
        self.answer, self.seen = answer, []
        heard = [await self._ask(rig, asked) for rig in self._rigs]
        assert heard[0] == heard[1]
        assert self.seen[0] == self.seen[1]
        assert len(self.seen) == 2

    async def _ask(self, rig: ProxyRig, asked: Asked) -> list[object]:
        heard: list[object] = []
        async with rig.client() as client:
            await client.send(asked.wire())
            while True:
                response = await client.response(asked.method.encode())
                lines = response.head.decode("latin-1").split("\r\n")[1:-2]
                fields = sorted((n.lower(), v) for n, _, v in (x.partition(": ") for x in lines))
                heard.append((response.status, _comparable(fields), response.body))
                if response.status >= 200:
                    return heard

    async def _http1(self, connection) -> None:  # type: ignore[no-untyped-def]
        while request := await connection.read_request():
            head, _, body = request.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            pairs = [
                (n.lower(), v.strip(" \t")) for n, _, v in (x.partition(":") for x in lines[1:])
            ]
            if ("transfer-encoding", "chunked") in pairs:
                body = _dechunk(body)
            self._note(method, target, dict(pairs)["host"], pairs, body)
            await connection.send(self._text(method))

    def _text(self, method: str) -> bytes:
        answer = self.answer
        text = "".join(f"HTTP/1.1 {status} x\r\nX-I: 1\r\n\r\n" for status in answer.interims)
        text += f"HTTP/1.1 {answer.status} x\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in answer.fields)
        body = b"" if _is_bodiless(method, answer.status) else answer.body
        if answer.has_length and answer.status != 204:
            text += f"content-length: {len(answer.body)}\r\n"
        elif body or (not answer.has_length and not _is_bodiless(method, answer.status)):
            # An empty body of unknown length ends with its head over HTTP/2, so it is told here.
            text += "transfer-encoding: chunked\r\n" if body else "content-length: 0\r\n"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b""
        return text.encode("latin-1") + b"\r\n" + body

    async def _http2(self, request) -> None:  # type: ignore[no-untyped-def]
        body, answer = await request.whole(), self.answer
        method, pairs = request.headers[":method"], request.fields
        plain = [pair for pair in pairs if not pair[0].startswith(":")]
        self._note(method, request.path, request.headers[":authority"], plain, body)
        for status in answer.interims:
            await request.head(status, [("x-i", "1")])
        fields = list(answer.fields)
        if answer.has_length and answer.status != 204:
            fields.append(("content-length", str(len(answer.body))))
        body = b"" if _is_bodiless(method, answer.status) else answer.body
        await request.answer(body, answer.status, fields)

    def _note(self, method: str, target: str, host: str, fields: Pairs, body: bytes) -> None:
        self.seen.append((method, target, host, _comparable(sorted(fields)), body))


def _is_bodiless(method: str, status: int) -> bool:
    return method == "HEAD" or status in (204, 304)


def _comparable(fields: Pairs) -> Pairs:
    framing = {"transfer-encoding", "content-length", "connection", "host"}
    own = {"x-request-id", "traceparent"}
    kept = [(name, value) for name, value in fields if name not in framing | own]
    return [(n, v.replace("2.0", "1.1") if n == "via" else v) for n, v in kept]


def _dechunk(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return body
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]


def test_protocol_to_the_application_cannot_be_told():
    with asyncio.Runner() as runner:
        world = World()
        runner.run(world.start())
        try:

            @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
            @given(_ASKED, _ANSWERED)
            def same(asked, answer):
                runner.run(world.compare(asked, answer))

            same()
        finally:
            runner.run(world.stop())
