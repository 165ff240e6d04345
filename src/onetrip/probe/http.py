"""Probe by HTTP: a GET on a kept connection, timed from the request to the first response byte.

The first exchange of a new connection is measured the same way, from request written to first
byte, so connecting never shows in an RTT. The rest of the response is read and dropped, within a
bound, so that the connection can serve the next probe.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from onetrip.errors import Kind, OnetripError, ProbeError
from onetrip.model.measure import Sample, SampleKind
from onetrip.net.streams import Connection
from onetrip.probe.base import Network, ProbeSpec, ended_early, failing_as_probe
from onetrip.timing import Deadline
from onetrip.wire.http1 import Fields, Limits
from onetrip.wire.http1_body import response_decoder
from onetrip.wire.http1_head import HeadReader, ResponseHead, serialise_request

MAX_RESPONSE = 64 * 1024
"""Bytes of a response read to keep its connection; after more it is closed instead."""

_LIMITS = Limits()
_PATH_SAFE = "/%?=&:@!$'()*+,;~-._[]"
_NOT_IN_HOST = re.compile(r"[^0-9A-Za-z.:_\[\]-]")
_METHOD = b"GET"


class HttpProbe:
    """Times a GET of the target's path."""

    def __init__(self, spec: ProbeSpec, network: Network) -> None:
        self._spec = spec
        self._network = network
        self._kept: Connection | None = None
        self._request = serialise_request(_METHOD, *request_parts(spec))

    async def run(self, timeout: float) -> Sample:
        """See `Probe`."""
        deadline = Deadline.after(timeout, self._network.clock)
        with failing_as_probe(self._spec):
            try:
                rtt, head = await self._exchange(deadline)
            except BaseException:
                self.close()
                raise
        if (error := health_error(self._spec, head.status)) is not None:
            raise error
        return self._network.sample(self._spec.target, rtt, SampleKind.HTTP)

    def close(self) -> None:
        """See `Probe`."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _exchange(self, deadline: Deadline) -> tuple[float, ResponseHead]:
        if self._kept is not None and self._kept.is_idle:
            try:
                return await self._ask(self._kept, deadline)
            except ProbeError:
                # The server closed the idle connection while our request was on its way; that
                # says nothing about the server (RFC 9110 section 9.2.2 allows the repeat).
                if self._kept.answered_at is not None:
                    raise
        self.close()
        self._kept = await self._network.open(self._spec.endpoint, deadline)
        return await self._ask(self._kept, deadline)

    async def _ask(self, connection: Connection, deadline: Deadline) -> tuple[float, ResponseHead]:
        asked_at = self._network.clock.now()
        connection.write(self._request)
        response = _Response(self._spec, self._network, connection, deadline)
        head = await response.head()
        assert connection.answered_at is not None
        rtt = connection.answered_at - asked_at
        if not await self._drain(response, head):
            self.close()
        return rtt, head

    async def _drain(self, response: _Response, head: ResponseHead) -> bool:
        try:
            return await response.drain(head)
        except OnetripError:
            return False  # the round trip was complete at the first byte; only the rest is lost


class _Response:
    """Reads one response: its final head, then its body."""

    def __init__(
        self, spec: ProbeSpec, network: Network, connection: Connection, deadline: Deadline
    ) -> None:
        self._spec = spec
        self._network = network
        self._connection = connection
        self._deadline = deadline
        self._reader = HeadReader(_LIMITS)
        self._buffer = b""
        self._size = 0

    async def head(self) -> ResponseHead:
        """Return the final head; informational ones are skipped."""
        while True:
            end = self._reader.find_end(self._buffer, is_request=False)
            if end < 0:
                self._buffer += await self._more()
                continue
            head = self._reader.response(self._buffer[:end])
            self._buffer = self._buffer[end:]
            if head.status >= 200:
                return head
            if head.status == 101 or self._size > MAX_RESPONSE:
                raise ProbeError(
                    f"probe of {self._spec.target}: answered {head.status}", kind=Kind.MALFORMED
                )

    async def drain(self, head: ResponseHead) -> bool:
        """Read the body away; tell whether the connection can be used again."""
        decoder = response_decoder(head, _METHOD, _LIMITS)
        if not decoder.is_complete and self._buffer:
            decoder.decode(self._buffer)
            self._buffer = b""
        while not decoder.is_complete:
            if self._size > MAX_RESPONSE or not head.keeps_alive:
                return False
            decoder.decode(await self._more())
        return head.keeps_alive and not decoder.leftover and not self._buffer

    async def _more(self) -> bytes:
        data = await self._connection.read(self._deadline.remaining(self._network.clock))
        if not data:
            raise ended_early(self._spec)
        self._size += len(data)
        return data


def request_parts(spec: ProbeSpec) -> tuple[bytes, Fields]:
    """Return the path that a probe requests, and its fields, Host first."""
    # Both come from configuration and API calls: whatever could end a line is encoded or left out.
    host = _NOT_IN_HOST.sub("", spec.host_header or str(spec.endpoint))
    path = quote(spec.path, safe=_PATH_SAFE)
    fields: Fields = [
        (b"Host", host.encode("ascii")),
        (b"User-Agent", b"onetrip-probe"),
        (b"Accept", b"*/*"),
    ]
    return (path or "/").encode("ascii"), fields


def health_error(spec: ProbeSpec, status: int) -> ProbeError | None:
    """Return why a target that answered `status` is not well, or None."""
    limit = 300 if spec.needs_success else 500
    if spec.is_health_check and status >= limit:
        return ProbeError(f"probe of {spec.target}: answered {status}", kind=Kind.UNHEALTHY)
    return None
