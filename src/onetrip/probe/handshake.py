"""Probes by handshake: TCP, MySQL and Redis (`probe/postgres` is apart). None needs credentials.

| target | one round trip | leaves on the server |
|---|---|---|
| TCP | SYN to SYN-ACK (`net/knock`) | nothing: the program sees no connection |
| PostgreSQL | SSLRequest to `S`/`N`, on an open connection | a short-lived backend process |
| MySQL | connection ready to greeting; later SYN to SYN-ACK | one aborted connect a greeting |
| Redis | PING to its reply, on a kept connection | one idle client |

A TCP handshake is answered by the first machine that terminates TCP: in front of a load balancer
it measures the way to the balancer. The other three are answered by the server's program.
"""

from __future__ import annotations

import math

from onetrip.errors import Kind, ProbeError
from onetrip.model.measure import Sample, SampleKind
from onetrip.net.streams import Connection
from onetrip.probe.base import Network, ProbeSpec, ended_early, failing_as_probe
from onetrip.timing import Deadline
from onetrip.wire.mysql import HOST_BLOCKED, MysqlEvent, MysqlGreeting
from onetrip.wire.postgres import PostgresEvent
from onetrip.wire.redis import RedisEvent, RedisPing
from onetrip.wire.reply import ReplyReader, ServerRefused

MAX_GREETINGS = 16
"""Greetings one MySQL probe asks for in its life. Each one is an interrupted handshake to the
server, which blocks a host at `max_connect_errors` of them in a row (100 by default)."""

FIRST_GREETINGS = 3
"""Greetings at first: the least of three is not the server's own name look-up."""

Reader = ReplyReader[PostgresEvent] | ReplyReader[MysqlEvent] | ReplyReader[RedisEvent]
Event = PostgresEvent | MysqlEvent | RedisEvent


class TcpProbe:
    """Times the TCP handshake."""

    def __init__(self, spec: ProbeSpec, network: Network) -> None:
        self._spec = spec
        self._network = network

    async def run(self, timeout: float) -> Sample:
        """See `Probe`."""
        deadline = Deadline.after(timeout, self._network.clock)
        with failing_as_probe(self._spec):
            rtt = await self._network.time_connect(self._spec.endpoint, deadline)
        return self._network.sample(self._spec.target, rtt, SampleKind.CONNECT)

    def close(self) -> None:
        """See `Probe`."""


class MysqlProbe:
    """Reads the greeting a few times to learn what a round trip costs, and knocks ever after.

    Every connection that ends before its login counts towards the server's `max_connect_errors`,
    whether it was greeted or only opened; HAProxy documents the same for its `mysql-check`. So
    the greeting is read by the first `FIRST_GREETINGS` probes and once after each failure, at
    most `MAX_GREETINGS` times; all other samples are TCP handshakes that the server's program
    does not see. A server that accepts and then hangs is noticed only by its own clients.

    A TCP handshake ends at the first machine that terminates TCP (a load balancer, a proxy). What
    the greeting took beyond it is the way from there to the server, and is added to each knock.
    """

    def __init__(self, spec: ProbeSpec, network: Network) -> None:
        self._spec = spec
        self._network = network
        self._wanted = FIRST_GREETINGS
        self._greetings = 0
        self._rest = math.inf
        self._is_changed = False

    async def run(self, timeout: float) -> Sample:
        """See `Probe`."""
        deadline = Deadline.after(timeout, self._network.clock)
        try:
            with failing_as_probe(self._spec):
                rtt = await self._network.time_connect(self._spec.endpoint, deadline)
                if self._wanted > 0 and self._greetings < MAX_GREETINGS:
                    return await self._greet(rtt, deadline)
        except ProbeError:
            self._wanted = max(self._wanted, 1)
            self._is_changed = True
            raise
        rtt += rest_of_way(rtt, self._rest)
        return self._network.sample(self._spec.target, rtt, SampleKind.CONNECT)

    def close(self) -> None:
        """See `Probe`."""

    async def _greet(self, connect_time: float, deadline: Deadline) -> Sample:
        connection = await self._network.open(self._spec.endpoint, deadline, with_tls=False)
        self._greetings += 1
        try:
            rtt, event = await ask(self._spec, self._network, connection, MysqlGreeting(), deadline)
        finally:
            connection.close()
        if isinstance(event, ServerRefused) and event.code == HOST_BLOCKED:
            # Another greeting would be refused as well; knocks still reach the machine.
            self._greetings = MAX_GREETINGS
            raise ProbeError(
                f"probe of {self._spec.target}: server blocked this host after too many "
                "interrupted connections (error 1129); run FLUSH HOSTS on it",
                kind=Kind.DENIED,
            )
        self._wanted -= 1
        if self._is_changed:
            # After a failure another machine may have taken over.
            self._rest, self._is_changed = math.inf, False
        # The least of several: a first greeting may wait for the server's own name look-up.
        self._rest = min(self._rest, max(0.0, rtt - connect_time))
        return self._network.sample(self._spec.target, rtt, SampleKind.HANDSHAKE)


class RedisProbe:
    """Times PING to its reply on a kept connection.

    A server that refuses when it accepts (protected mode, too many clients) closes at once, and
    the reset can overtake the text of its refusal: that is a failure.
    """

    def __init__(self, spec: ProbeSpec, network: Network) -> None:
        self._spec = spec
        self._network = network
        self._kept: Connection | None = None

    async def run(self, timeout: float) -> Sample:
        """See `Probe`."""
        deadline = Deadline.after(timeout, self._network.clock)
        with failing_as_probe(self._spec):
            try:
                rtt = await self._ping(deadline)
            except BaseException:
                self.close()
                raise
        return self._network.sample(self._spec.target, rtt, SampleKind.HANDSHAKE)

    def close(self) -> None:
        """See `Probe`."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _ping(self, deadline: Deadline) -> float:
        if self._kept is not None and not self._kept.is_idle:
            # It was closed meanwhile, or holds bytes nobody asked for, which would be taken for
            # the answer.
            self.close()
        if self._kept is None:
            self._kept = await self._network.open(self._spec.endpoint, deadline)
        reader = RedisPing()
        rtt, event = await ask(self._spec, self._network, self._kept, reader, deadline)
        if not reader.is_clean or isinstance(event, ServerRefused):
            # A refusing server may close after its answer.
            self.close()
        return rtt


def rest_of_way(connect_time: float, rest: float) -> float:
    """Return what to add to a TCP handshake for the way behind the machine that answered it, s.

    A difference that a server's own work explains (5 ms, or a quarter of the way) is no way.
    """
    if math.isinf(rest) or rest <= max(0.005, connect_time / 4):
        return 0.0
    return rest


async def ask(
    spec: ProbeSpec,
    network: Network,
    connection: Connection,
    reader: Reader,
    deadline: Deadline,
) -> tuple[float, Event]:
    """Send the reader's question and return (RTT, s, and the answer).

    Without a question the server speaks first, and the time counts from the open connection: our
    ACK goes and the greeting comes, one round trip.

    Raises:
        ProbeError: kind RESET; the server closed without an answer.
        UpstreamError: kind TIMEOUT.
        ProtocolError: the answer is not of this protocol.
    """
    question = reader.data_to_send()
    asked_at = connection.opened_at
    if question:
        asked_at = network.clock.now()
        connection.write(question)
    while True:
        data = await connection.read(deadline.remaining(network.clock))
        if not data:
            raise ended_early(spec)
        reader.receive_data(data)
        events = reader.next_events()
        if events and connection.answered_at is not None:
            return connection.answered_at - asked_at, events[0]
