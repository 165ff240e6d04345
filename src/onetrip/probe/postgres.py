"""The probe of PostgreSQL: SSLRequest to its answer, and the TLS handshake after it.

The time of the one-byte answer is the RTT. Where TLS is offered the handshake follows: a proxy that
routes by server name (Neon's, Supabase's pooler) takes the connection only then, a certificate is
looked at where that is wanted, and PostgreSQL logs a line for each connection that ends before it.
Its first exchange is timed, too: what it takes beyond the RTT is a longer way to the machine that
the name leads to, and is added.

No startup message is sent. It would make the server log a failed login for each probe, and would
keep a serverless database awake, which its owner pays for.
"""

from __future__ import annotations

import asyncio
import math
import ssl

from onetrip.errors import Kind, OnetripError, ProbeError
from onetrip.model.catalog import DatabaseTls
from onetrip.model.measure import Sample, SampleKind
from onetrip.net.streams import Connection
from onetrip.probe.base import Network, ProbeSpec, failing_as_probe
from onetrip.probe.handshake import ask
from onetrip.probe.tls import make_context, shake_hands
from onetrip.timing import Deadline
from onetrip.wire.postgres import PostgresGreeting, SslAnswer

LEAST_REST = 0.020
"""Least excess of the handshake over the RTT that is a way, s: less is a server that signs."""

_NEEDED = (DatabaseTls.REQUIRE, DatabaseTls.VERIFY_CA, DatabaseTls.VERIFY_FULL)


class PostgresProbe:
    """Times SSLRequest to the first reply byte; a new connection each time.

    The server allows one SSLRequest a connection, so nothing can be kept.
    """

    def __init__(self, spec: ProbeSpec, network: Network) -> None:
        self._spec = spec
        self._network = network
        self._context: ssl.SSLContext | None = None
        self._rest = math.inf

    async def run(self, timeout: float) -> Sample:
        """See `Probe`."""
        deadline = Deadline.after(timeout, self._network.clock)
        try:
            with failing_as_probe(self._spec):
                rtt = await self._measure(deadline)
        except ProbeError:
            self._rest = math.inf  # another machine may take over
            raise
        return self._network.sample(self._spec.target, rtt, SampleKind.HANDSHAKE)

    def close(self) -> None:
        """See `Probe`."""

    async def _measure(self, deadline: Deadline) -> float:
        spec, network = self._spec, self._network
        connection = await network.open(spec.endpoint, deadline, with_tls=False)
        try:
            rtt, event = await ask(spec, network, connection, PostgresGreeting(), deadline)
            has_tls = isinstance(event, SslAnswer) and event.is_accepted
            if not has_tls and spec.tls in _NEEDED:
                raise ProbeError(
                    f"probe of {spec.target}: the server has no TLS, which sslmode="
                    f"{spec.tls.value} wants",
                    kind=Kind.DENIED,
                )
            if has_tls:
                await self._secure(connection, rtt, deadline)
        finally:
            connection.close()
        return rtt + (self._rest if LEAST_REST <= self._rest < math.inf else 0.0)

    async def _secure(self, connection: Connection, rtt: float, deadline: Deadline) -> None:
        """Shake hands, and note how much longer that takes."""
        spec = self._spec
        if self._context is None:
            self._context = await asyncio.to_thread(make_context, spec.tls, spec.ca_file)
        host, clock = spec.endpoint.host, self._network.clock
        try:
            first = await shake_hands(connection, self._context, host, deadline, clock)
        except OnetripError as error:
            if spec.tls in _NEEDED:
                reason = f"probe of {spec.target}: {error}"
                raise ProbeError(reason, kind=error.kind) from error
            return  # it was only offered, and the server has answered
        self._rest = min(self._rest, max(0.0, first - rtt))
