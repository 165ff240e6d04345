"""Probe by HTTP/2: a GET on a kept connection, timed from the request to its response's first byte.

A server sends frames of its own accord (settings, acknowledgements, PING), and one that comes just
after the request must not pass for the answer: a round trip of nothing would be the smallest ever.
So the time is that of the bytes which brought the response's head.
"""

from __future__ import annotations

from onetrip.errors import Kind, ProbeError
from onetrip.model.measure import Sample, SampleKind
from onetrip.model.topology import HttpProtocol
from onetrip.net.streams import Connection
from onetrip.probe.base import Network, ProbeSpec, ended_early, failing_as_probe
from onetrip.probe.http import MAX_RESPONSE, HttpProbe, health_error, request_parts
from onetrip.timing import Deadline
from onetrip.wire.http1 import Limits
from onetrip.wire.http2 import (
    BodyArrived,
    FrameMeter,
    HeadArrived,
    Http2Event,
    MessageEnded,
    PeerLeaves,
    StreamLost,
)
from onetrip.wire.http2_codec import ClientCodec
from onetrip.wire.http2_upstream import read_response, request_headers

_LIMITS = Limits()
_METHOD = b"GET"


class Http2Probe:
    """Times a GET of the target's path, over HTTP/2 if the target chooses it."""

    def __init__(self, spec: ProbeSpec, network: Network) -> None:
        self._spec = spec
        self._network = network
        self._kept: _Session | None = None
        self._plain: HttpProbe | None = None  # for an `auto` target that chose HTTP/1.1

    async def run(self, timeout: float) -> Sample:
        """See `Probe`."""
        if self._plain is not None:
            return await self._plain.run(timeout)
        deadline = Deadline.after(timeout, self._network.clock)
        with failing_as_probe(self._spec):
            try:
                found = await self._exchange(deadline)
            except BaseException:
                self.close()
                raise
        if found is None:
            self._plain = HttpProbe(self._spec, self._network)
            return await self._plain.run(deadline.remaining(self._network.clock))
        rtt, status = found
        if (error := health_error(self._spec, status)) is not None:
            raise error
        return self._network.sample(self._spec.target, rtt, SampleKind.HTTP)

    def close(self) -> None:
        """See `Probe`."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        if self._plain is not None:
            self._plain.close()

    async def _exchange(self, deadline: Deadline) -> tuple[float, int] | None:
        """Return RTT and status; None if the target chose HTTP/1.1."""
        if self._kept is not None and self._kept.is_usable:
            try:
                return await self._kept.ask(deadline)
            except ProbeError:
                # The server closed the idle connection while our request was on its way.
                if self._kept.has_answered:
                    raise
        self.close()
        endpoint = self._spec.endpoint
        connection = await self._network.open(endpoint, deadline)
        if endpoint.tls_name is not None and connection.protocol != "h2":
            connection.close()
            if endpoint.protocol is HttpProtocol.AUTO:
                return None
            raise ProbeError(f"{endpoint} does not offer HTTP/2", kind=Kind.CONNECT)
        self._kept = _Session(self._spec, self._network, connection)
        return await self._kept.ask(deadline)


class _Session:
    """One connection of a probe.

    Attributes:
        has_answered: something has come since the last request.
    """

    def __init__(self, spec: ProbeSpec, network: Network, connection: Connection) -> None:
        self._spec = spec
        self._network = network
        self._connection = connection
        self._codec = ClientCodec(MAX_RESPONSE, _LIMITS.head)
        self._meter = FrameMeter(_LIMITS, has_preface=False)
        self._is_leaving = self._is_over = False
        self._answer: tuple[float, int] | None = None
        self._stream = 0
        self.has_answered = False
        path, fields = request_parts(spec)
        scheme = b"https" if spec.endpoint.tls_name is not None else b"http"
        named = [(name.lower(), value) for name, value in fields]
        self._headers = request_headers(_METHOD, scheme, path, named)

    @property
    def is_usable(self) -> bool:
        """Tell whether another request may be sent."""
        return not self._is_leaving and self._connection.is_open

    def close(self) -> None:
        """Close at once."""
        self._connection.close()

    async def ask(self, deadline: Deadline) -> tuple[float, int]:
        """Send a request; return the time to its response, s, and the status."""
        connection, clock = self._connection, self._network.clock
        self._begin()
        asked_at = clock.now()
        connection.write(self._codec.take_output())
        size = 0
        while not self._is_over and size <= MAX_RESPONSE:
            connection.forget_answer()
            data = await connection.read(deadline.remaining(clock))
            if not data:
                break
            self.has_answered = True
            size += len(data)
            at = clock.now() if connection.answered_at is None else connection.answered_at
            self._meter.feed(data)
            for event in self._codec.receive(data):
                self._note(event, at - asked_at)
            connection.write(self._codec.take_output())
        if self._answer is None:
            raise ended_early(self._spec)
        self._is_leaving |= not self._is_over  # the rest of the response is not worth reading
        return self._answer

    def _begin(self) -> None:
        self.has_answered = False
        self._answer = None
        self._is_over = False
        self._stream = self._codec.open(self._headers, ends=True)

    def _note(self, event: Http2Event, rtt: float) -> None:
        if isinstance(event, PeerLeaves):
            self._is_leaving = True
            self._is_over |= event.last_stream < self._stream
        elif isinstance(event, BodyArrived):
            self._codec.acknowledge(event.stream, event.size)
        elif isinstance(event, HeadArrived):
            head = read_response(event.headers, ends=event.ends, method=_METHOD, limits=_LIMITS)
            if head.status >= 200:
                self._answer = (rtt, head.status)
                self._is_over |= event.ends
        elif isinstance(event, MessageEnded | StreamLost):
            self._is_over = True
