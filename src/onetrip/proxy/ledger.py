"""What is told about a finished exchange: metrics, one access line, one observation.

Counting must stay cheap, so label children are looked up once and kept by key, and counters are
added up here and published with each sweep. Every key comes from a closed set (routes of the
catalog, regions, arms, kinds), which bounds the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onetrip.errors import OnetripError, Side
from onetrip.model.measure import Arm, Observation, RouteKey, Timing
from onetrip.model.topology import RegionId
from onetrip.observe.logs import AccessSink
from onetrip.observe.metrics import Metrics
from onetrip.proxy.router import Match
from onetrip.timing import Clock
from onetrip.wire.server_timing import parse_server_timing

if TYPE_CHECKING:
    from onetrip.proxy.tracing import Tracer

ACCESS_EVENT = "proxy.exchange_finished"
"""What tells an access line from the events, where both go to the same place."""

_ELSEWHERE = ("moved", "primary")

NO_ROUTE = "none"
"""Value of the `route` label when no environment took the request."""


@dataclass(slots=True)
class Record:
    """One exchange, filled in while it runs. Times are monotonic s; 0 means it never happened.

    Attributes:
        ends_at: when it must be over.
    """

    started_at: float
    client: str
    method: bytes = b""
    host: bytes = b""
    target: bytes = b""
    request_id: bytes = b""
    trace_id: bytes = b""
    span_id: int = 0
    """Of the span that this exchange makes; 0 for none."""
    parent_id: bytes = b""
    match: Match | None = None
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_at: float = 0.0
    sent_at: float = 0.0
    ends_at: float = math.inf
    region: RegionId | None = None
    edge: RegionId | None = None
    arm: Arm = Arm.DEFAULT
    endpoint: str = ""
    served_by: str = "instance"
    version: str = ""
    """During a rollout, which of the two deployments: current or candidate."""
    is_own: bool = False
    is_cold: bool = False
    from_peer: bool = False
    is_upgrade: bool = False
    server_timing: bytes = b""
    freshness: str = ""
    """How a read was kept from showing less than its client has seen, "" where nobody asked."""
    attempts: int = 0
    error: OnetripError | None = None


class _Tally:
    """A counter's increase since it was last published: an addition is all a request pays."""

    __slots__ = ("count", "counter")

    def __init__(self, counter: Any) -> None:
        self.counter = counter
        self.count = 0


class Ledger:
    """Counts and logs the exchanges of one node; `publish` brings its metrics up to date."""

    def __init__(
        self,
        metrics: Metrics,
        access_log: AccessSink | None,
        on_observation: Callable[[Observation], None],
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._on_observation = on_observation
        self._clock = clock
        self._tallies: list[_Tally] = []
        self._requests: dict[tuple[str, int], _Tally] = {}
        self._versions: dict[tuple[str, int, str], _Tally] = {}
        self._forwarded: dict[tuple[RegionId, Arm], tuple[_Tally, Any]] = {}
        self._downstreams = metrics.connections.labels("downstream")
        self._upstreams = metrics.connections.labels("upstream")
        self._bytes_in = self._tally(metrics.body.labels("upstream"))
        self._bytes_out = self._tally(metrics.body.labels("downstream"))
        self.retries = metrics.retries
        self.tracer: Tracer | None = None

    def close(self, record: Record, settled: Callable[[Match, int], RouteKey]) -> None:
        """Book one finished exchange.

        Args:
            settled: `Routing.settle`: the key to file it under.
        """
        now = self._clock.now()
        match = record.match
        self._count(record, match.label if match is not None else NO_ROUTE)
        if match is not None and record.region is not None and not record.is_upgrade:
            # What a candidate does tells nothing about the code that everybody else gets.
            is_told = record.error is None or record.error.side is not Side.DOWNSTREAM
            # Who reads elsewhere than its route does tells nothing about the route either.
            if is_told and not match.is_trial and record.freshness not in _ELSEWHERE:
                self._observe(record, settled(match, record.status), now)
        if record.span_id and self.tracer is not None:
            self.tracer.end(record, now)
        if self._access_log is not None:
            self._access_log.write(self._line(record, now))

    def note_refresh(self, record: Record, settled: Callable[[Match, int], RouteKey]) -> None:
        """Book an exchange that no client asked for: where it ran, and what it tells of that."""
        match = record.match
        if match is not None and record.region is not None and not match.is_trial:
            self._count_forwarded(record, record.region)
            self._observe(record, settled(match, record.status), self._clock.now())

    def publish(self, downstreams: int, upstreams: int) -> None:
        """Bring the metrics up to date, with the number of open connections on each side."""
        for tally in self._tallies:
            if tally.count:
                tally.counter.inc(tally.count)
                tally.count = 0
        self._downstreams.set(downstreams)
        self._upstreams.set(upstreams)
        if self._access_log is not None:
            self._metrics.access_log_dropped.set(self._access_log.dropped)

    def _tally(self, counter: Any) -> _Tally:
        tally = _Tally(counter)
        self._tallies.append(tally)
        return tally

    def _count(self, record: Record, route: str) -> None:
        key = (route, record.status // 100)
        requests = self._requests.get(key)
        if requests is None:
            label = f"{record.status // 100}xx" if record.status else NO_ROUTE
            requests = self._tally(self._metrics.requests.labels(route, label))
            self._requests[key] = requests
        requests.count += 1
        if record.version:
            self._count_version(record, key)
        if record.region is not None:
            self._count_forwarded(record, record.region)
        self._bytes_in.count += record.bytes_in
        self._bytes_out.count += record.bytes_out
        if record.is_upgrade:
            self._metrics.upgrades.inc()
        if (error := record.error) is not None:
            self._metrics.errors.labels(error.side.value, error.kind.value).inc()

    def _count_version(self, record: Record, key: tuple[str, int]) -> None:
        place = (*key, record.version)
        tally = self._versions.get(place)
        if tally is None:
            label = f"{key[1]}xx" if key[1] else NO_ROUTE
            counter = self._metrics.deployments.requests.labels(key[0], record.version, label)
            tally = self._versions[place] = self._tally(counter)
        tally.count += 1

    def _count_forwarded(self, record: Record, region: RegionId) -> None:
        pair = self._forwarded.get((region, record.arm))
        if pair is None:
            labels = (region, record.arm.value)
            pair = (
                self._tally(self._metrics.forwarded.labels(*labels)),
                self._metrics.request_duration.labels(*labels),
            )
            self._forwarded[region, record.arm] = pair
        pair[0].count += 1
        if record.first_byte_at and not record.from_peer:
            pair[1].observe(record.first_byte_at - record.started_at)

    def _observe(self, record: Record, key: RouteKey, now: float) -> None:
        assert record.region is not None
        assert record.edge is not None
        first = record.first_byte_at
        latency = first - record.started_at if first and not record.from_peer else None
        timings: tuple[Timing, ...] = ()
        if record.server_timing and record.is_own:
            timings = parse_server_timing(record.server_timing)
        self._on_observation(
            Observation(
                key=key,
                edge=record.edge,
                region=record.region,
                arm=record.arm,
                latency=latency,
                service=first - record.sent_at if first and record.is_own else None,
                is_error=not first or record.status >= 500 or record.error is not None,
                is_cold=record.is_cold,
                at=now,
                timings=timings,
                sent_at=record.sent_at,
            )
        )

    def _line(self, record: Record, now: float) -> dict[str, Any]:
        match, first = record.match, record.first_byte_at
        return {
            "ts": round(self._clock.wall() - (now - record.started_at), 3),
            "event": ACCESS_EVENT,
            "request_id": record.request_id.decode("latin-1"),
            "trace_id": record.trace_id.decode("latin-1"),
            "span_id": f"{record.span_id:016x}" if record.span_id else None,
            "client": record.client,
            "method": record.method.decode("latin-1"),
            "host": record.host.decode("latin-1"),
            "path": record.target.partition(b"?")[0].decode("latin-1"),
            "status": record.status,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "duration": round(now - record.started_at, 6),
            "sent_after": round(record.sent_at - record.started_at, 6) if record.sent_at else None,
            "ttfb": round(first - record.started_at, 6) if first else None,
            "project": match.environment.id.project if match else None,
            "environment": match.environment.id.environment if match else None,
            "deployment": match.environment.deployment or None if match else None,
            "route": match.key.route if match else None,
            "edge": record.edge,
            "from_peer": record.from_peer,
            "region": record.region,
            "arm": record.arm.value,
            "consistency": record.freshness or None,
            "served_by": record.served_by,
            "upstream": record.endpoint,
            "is_cold": record.is_cold,
            "attempts": record.attempts,
            "error_side": record.error.side.value if record.error else None,
            "error": record.error.kind.value if record.error else None,
        }
