"""What a probe is: one active measurement of one round trip to one target.

The rule every probe keeps: an RTT is the time from *one* thing sent to *one* thing received, on a
connection that was ready before. Looking up a name, connecting and negotiating TLS are separate
round trips and never part of it. What the server does between receiving and answering is part of
it and cannot be told apart; that is why estimates take the windowed minimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from onetrip.errors import Kind, OnetripError, ProbeError
from onetrip.model.catalog import BackendKind, DatabaseTls
from onetrip.model.measure import Sample, SampleKind, Target
from onetrip.model.topology import Endpoint
from onetrip.net.dial import Dial
from onetrip.net.knock import Knock
from onetrip.net.resolve import Resolve
from onetrip.net.streams import Connection
from onetrip.timing import Clock, Deadline


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """What to probe, and how.

    Attributes:
        kind: the protocol to speak; peers and instances speak HTTP.
        path: path requested by an HTTP probe.
        host_header: Host of an HTTP probe.
        is_health_check: a 5xx answer is a failure; otherwise any answer is a round trip.
        needs_success: of a health check, an answer other than 2xx is a failure.
        tls, ca_file: see `Backend`.
    """

    target: Target
    kind: BackendKind
    endpoint: Endpoint
    path: str = "/"
    host_header: str = ""
    is_health_check: bool = False
    needs_success: bool = False
    tls: DatabaseTls = DatabaseTls.PREFER
    ca_file: str = ""


class Probe(Protocol):
    """Measures one target, again and again, never twice at a time."""

    async def run(self, timeout: float) -> Sample:
        """Take one sample within `timeout` s.

        Raises:
            ProbeError: no RTT; `kind` says why.
        """

    def close(self) -> None:
        """Drop what is kept between runs."""


@dataclass(frozen=True, slots=True)
class Network:
    """Everything a probe touches outside itself."""

    dial: Dial
    knock: Knock
    resolve: Resolve
    clock: Clock

    async def open(
        self, endpoint: Endpoint, deadline: Deadline, *, with_tls: bool = True
    ) -> Connection:
        """Return a new connection to `endpoint`.

        Raises:
            UpstreamError: kind CONNECT or TIMEOUT.
        """
        address = await self.address(endpoint, deadline)
        try:
            return await self.dial(
                lambda: Connection(self.clock),
                address,
                endpoint.port,
                timeout=deadline.remaining(self.clock),
                tls_name=endpoint.tls_name if with_tls else None,
                protocols=endpoint.protocol.alpn,
            )
        except OnetripError:
            self.resolve.distrust(endpoint.host, address)
            raise

    async def time_connect(self, endpoint: Endpoint, deadline: Deadline) -> float:
        """Return the time of one TCP handshake, s.

        Raises:
            UpstreamError: kind CONNECT or TIMEOUT.
        """
        address = await self.address(endpoint, deadline)
        try:
            return await self.knock(address, endpoint.port, timeout=deadline.remaining(self.clock))
        except OnetripError:
            self.resolve.distrust(endpoint.host, address)
            raise

    async def address(self, endpoint: Endpoint, deadline: Deadline) -> str:
        """Return the address of `endpoint`; outside every measured time."""
        return await self.resolve(endpoint.host, timeout=deadline.remaining(self.clock))

    def sample(self, target: Target, rtt: float, kind: SampleKind) -> Sample:
        """Return a sample taken now."""
        return Sample(target=target, rtt=rtt, kind=kind, taken_at=self.clock.now())


@contextmanager
def failing_as_probe(spec: ProbeSpec) -> Iterator[None]:
    """Turn any failure of the network or the protocol into a `ProbeError` that names the target."""
    try:
        yield
    except ProbeError:
        raise
    except OnetripError as error:
        raise ProbeError(f"probe of {spec.target}: {error}", kind=error.kind) from error


def ended_early(spec: ProbeSpec) -> ProbeError:
    """Return the error for a server that closed without an answer."""
    return ProbeError(
        f"probe of {spec.target}: {spec.endpoint} closed without an answer", kind=Kind.RESET
    )
