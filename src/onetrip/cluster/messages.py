"""What one node tells its peers: a whole report, encoded as MessagePack and checked on arrival.

A report is untrusted until `decode_report` has passed it: types, sizes and ranges. Times of other
machines never cross the wire, only ages, so clocks need not agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, field

from onetrip.errors import Kind, PeerError, ProtocolError
from onetrip.model.catalog import Mode
from onetrip.model.measure import RouteKey, RttEstimate, ServiceSummary, TripEvidence
from onetrip.model.placement import Decision, WhatIf
from onetrip.model.replication import MAX_POSITION, EndpointState, Role, parse_position
from onetrip.model.status import LatencySummary
from onetrip.model.topology import RegionId

MAX_REPORT_SIZE = 32 * 1024 * 1024
"""Bytes of an encoded report; 20,000 routes with decisions take about 25 MB."""

MAX_RTT = 60.0
"""Seconds; anything longer is not a round trip but a failure."""

MAX_AGE = 86_400.0
"""Oldest change of code told, s."""

MAX_TRIPS = 100_000
"""Most round trips a request believed."""

Count = Annotated[int, Meta(ge=0, le=2**53)]


class PolicyRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A policy override of one project, made through the API of some node.

    What is not set is left out, so that a node of an older version can read it.

    Attributes:
        version: grows with each change of the project's override; with `origin` it orders them.
        base: digest of the configured placement it was made against; it is void against another.
    """

    project: str
    version: Count
    origin: RegionId
    base: str = ""
    mode: Mode | None = None
    hint: str | None = None
    control: Annotated[float, Meta(ge=0, le=0.5)] | None = None
    explore: Annotated[float, Meta(ge=0, le=1)] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] | None = None

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Total order of the overrides of one project; the greatest one counts."""
        return (self.version, self.origin, self.base, repr(self))


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """Service times of one route in one region."""

    key: RouteKey
    summary: ServiceSummary


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """Round trips of one route told by something other than service times."""

    key: RouteKey
    evidence: TripEvidence


@dataclass(frozen=True, slots=True)
class CodeChange:
    """New code of a route, noticed by its service times `age` s ago."""

    key: RouteKey
    age: float


class EndpointRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an endpoint of a backend told this node; see `EndpointState`."""

    endpoint: Annotated[str, Meta(max_length=128)]
    role: Role
    position: Annotated[str, Meta(max_length=MAX_POSITION)] = ""
    lag: float = math.nan
    lag_bytes: Count | None = None
    is_replicating: bool = True
    age: float = 0.0
    timeline: Count = 0

    @property
    def state(self) -> EndpointState:
        """The row as the state that it tells.

        Raises:
            ProtocolError: its position is none.
        """
        return EndpointState(
            self.role,
            parse_position(self.position),
            self.lag,
            self.lag_bytes,
            self.is_replicating,
            self.age,
            self.timeline,
        )


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything a node shares.

    What is not set is left out, so that a node of an older version can read the rest.

    Attributes:
        boot: Unix time the node started; a restarted node's reports replace its older ones.
        seq: grows with each report of one boot.
        is_draining: it takes no new work while another region can.
        rtts: its own row; `updated_at` holds the age (s) while on the wire.
        services: service times it measured.
        durations: times spent on one backend, as told in Server-Timing.
        evidence: round trips told by other sources.
        code_changes: routes whose code changed lately, as this node noticed.
        decisions: explain records of its own edge.
        what_if: what the toggle would do at its own edge.
        latencies: recent latencies at its own edge.
        policies: every override it knows, of whatever origin.
        resources: digest of the declared things it knows (`release.registry`), "" without any.
        endpoints: what endpoints of backends with replicas told it.
    """

    region: RegionId
    boot: float
    seq: Count
    is_draining: bool = False
    rtts: Annotated[list[RttEstimate], Meta(max_length=100_000)] = field(default_factory=list)
    services: Annotated[list[ServiceRow], Meta(max_length=400_000)] = field(default_factory=list)
    durations: Annotated[list[ServiceRow], Meta(max_length=400_000)] = field(default_factory=list)
    evidence: Annotated[list[EvidenceRow], Meta(max_length=400_000)] = field(default_factory=list)
    code_changes: Annotated[list[CodeChange], Meta(max_length=1000)] = field(default_factory=list)
    decisions: Annotated[list[Decision], Meta(max_length=20_000)] = field(default_factory=list)
    what_if: Annotated[list[WhatIf], Meta(max_length=20_000)] = field(default_factory=list)
    latencies: Annotated[list[LatencySummary], Meta(max_length=100_000)] = field(
        default_factory=list
    )
    policies: Annotated[list[PolicyRow], Meta(max_length=20_000)] = field(default_factory=list)
    resources: Annotated[str, Meta(max_length=64)] = ""
    endpoints: Annotated[list[EndpointRow], Meta(max_length=4096)] = field(default_factory=list)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Report)


def encode_report(report: Report) -> bytes:
    """Return the report as bytes."""
    return _ENCODER.encode(report)


def decode_report(data: bytes) -> Report:
    """Decode and check a peer's report.

    Raises:
        PeerError: the bytes are no report, or a value is out of its range.
    """
    if len(data) > MAX_REPORT_SIZE:
        raise PeerError(f"report of {len(data)} bytes exceeds limit of {MAX_REPORT_SIZE}")
    try:
        report = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PeerError(f"report cannot be read: {error}", kind=Kind.MALFORMED) from error
    check_report(report)
    return report


def check_report(report: Report) -> None:
    """Raise `PeerError` unless every value of a decoded report is in its range."""
    for estimate in report.rtts:
        for name, value in (("rtt", estimate.rtt), ("age", estimate.updated_at)):
            _check_time(f"{name} of {estimate.target}", value, math.inf if name == "age" else 60.0)
    for row in (*report.services, *report.durations):
        _check_time(f"mean of {row.key}", row.summary.mean, 86_400.0)
        for backend, rtt in row.summary.rtts.items():
            _check_time(f"rtt to {backend} of {row.key}", rtt, MAX_RTT)
        if row.summary.count < 0 or not row.summary.error >= 0:
            raise PeerError(f"count or error of {row.key} is negative")
    for item in report.evidence:
        if not (0 <= item.evidence.trips <= MAX_TRIPS and item.evidence.error >= 0):
            raise PeerError(f"round trips of {item.key} are not in 0..{MAX_TRIPS}")
    for latency in report.latencies:
        if latency.trial is not None and not latency.trial.is_sound():
            raise PeerError(f"distribution of {latency.key} is not sound")
    for told in report.endpoints:
        _check_endpoint(told)
    for change in report.code_changes:
        if not 0 <= change.age <= MAX_AGE:
            raise PeerError(f"age of the change of {change.key} is not in 0..{MAX_AGE:g} s")


def _check_endpoint(row: EndpointRow) -> None:
    try:
        parse_position(row.position)
    except ProtocolError as error:
        raise PeerError(f"position of {row.endpoint}: {error}") from error
    for name, value in (("lag", row.lag), ("age", row.age)):
        _check_time(f"{name} of {row.endpoint}", value, math.inf)
    if math.isnan(row.age):
        raise PeerError(f"age of {row.endpoint} is not known")


def _check_time(name: str, value: float, limit: float) -> None:
    # NaN stands for "unknown" and is allowed; nothing else outside the range is.
    if not (math.isnan(value) or 0 <= value <= limit):
        raise PeerError(f"{name} of {value:g} s is not in 0..{limit:g} s")
