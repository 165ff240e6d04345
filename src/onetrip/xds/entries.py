"""Entries of Envoy's access log, read as the records that a data plane of ours would have written.

An entry comes from another program: what does not fit is left out, and times that cannot be are cut
to what can.
"""

from __future__ import annotations

from typing import Any

from onetrip.errors import DownstreamError, Kind, OnetripError, UpstreamError
from onetrip.model.measure import Arm
from onetrip.model.topology import RegionId
from onetrip.proxy.ledger import Record
from onetrip.proxy.router import Routing
from onetrip.timing import Clock
from onetrip.xds.names import arm_of, first_region

MAX_LATE = 60.0
"""Seconds that an entry may have been on its way; older ones are taken to be from now."""

COLD_AFTER = 0.002
"""Seconds from a request to its first byte upstream from which it waited for a connection: on a
kept one Envoy passes it on within a fraction of a millisecond."""

_METHODS = (
    *(b"", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"),
    *(b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"),
)
"""By their number in Envoy's API (`core.v3.RequestMethod`)."""

_UPSTREAM_FLAGS = (
    ("no_healthy_upstream", Kind.UNAVAILABLE),
    ("upstream_overflow", Kind.REQUEST_LIMIT),
    ("upstream_connection_failure", Kind.CONNECT),
    ("upstream_request_timeout", Kind.DEADLINE),
    ("stream_idle_timeout", Kind.TIMEOUT),
    ("upstream_connection_termination", Kind.RESET),
    ("upstream_remote_reset", Kind.RESET),
    ("upstream_protocol_error", Kind.MALFORMED),
)
_DOWNSTREAM_FLAGS = (
    ("downstream_connection_termination", Kind.RESET),
    ("downstream_remote_reset", Kind.RESET),
    ("downstream_protocol_error", Kind.MALFORMED),
    ("no_route_found", Kind.NO_ROUTE),
)


class EntryReader:
    """Reads the entries of one region's Envoys."""

    def __init__(self, edge: RegionId, clock: Clock) -> None:
        self._edge = edge
        self._clock = clock
        self.routing: Routing | None = None
        self.regions: frozenset[RegionId] = frozenset()

    def read(self, entry: Any) -> Record | None:
        """Return the record of an entry; None when it is about no request that was understood."""
        common, request = entry.common_properties, entry.request
        number = request.request_method
        if self.routing is None or not 0 < number < len(_METHODS):
            return None
        record = Record(self._began(common), _client(common), method=_METHODS[number])
        record.host = request.authority.encode("latin-1", "replace")
        record.target = request.path.encode("latin-1", "replace")
        record.match = self.routing.match(record.method, record.host, record.target)
        record.request_id = request.request_id[:128].encode("latin-1", "replace")
        record.edge = self._edge
        record.status = entry.response.response_code.value
        record.is_upgrade = record.status == 101
        record.bytes_in = request.request_body_bytes
        record.bytes_out = entry.response.response_body_bytes
        record.attempts = common.upstream_request_attempt_count
        record.error = _error(common.response_flags)
        self._note_upstream(record, entry)
        return record

    def _note_upstream(self, record: Record, entry: Any) -> None:
        common = entry.common_properties
        region = RegionId(common.custom_tags.get("region", ""))
        if region not in self.regions:
            return
        record.region, record.is_own = region, region == self._edge
        record.arm = _arm(common.route_name, common.upstream_cluster, region)
        at = common.upstream_remote_address.socket_address
        record.endpoint = f"{at.address}:{at.port_value}"
        sent = _seconds(common, "time_to_first_upstream_tx_byte")
        first = _seconds(common, "time_to_first_upstream_rx_byte")
        if sent is not None:
            record.sent_at = record.started_at + sent
            record.is_cold = sent > COLD_AFTER
        if first is not None and sent is not None and first >= sent:
            record.first_byte_at = record.started_at + first
        timing = entry.response.response_headers.get("server-timing", "")
        record.server_timing = timing.encode("latin-1", "replace")

    def _began(self, common: Any) -> float:
        """Return when a request began, on our clock; an Envoy elsewhere has another one."""
        now, duration = self._clock.now(), _seconds(common, "duration") or 0.0
        age = self._clock.wall() - (common.start_time.seconds + common.start_time.nanos * 1e-9)
        if not duration <= age <= duration + MAX_LATE:
            age = duration
        return float(now - age)


def _arm(route: str, cluster: str, region: RegionId) -> Arm:
    wanted = first_region(cluster)
    if wanted is None:
        return Arm.DEFAULT
    if wanted != region:
        return Arm.FAILOVER
    return arm_of(route, wanted) or Arm.DEFAULT


def _seconds(message: Any, field: str) -> float | None:
    """Return a duration, s; None when it is not told, or cannot be."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    found = float(value.seconds + value.nanos * 1e-9)
    return found if found >= 0 else None


def _client(common: Any) -> str:
    return str(common.downstream_remote_address.socket_address.address)


def _error(flags: Any) -> OnetripError | None:
    for name, kind in _DOWNSTREAM_FLAGS:
        if getattr(flags, name):
            return DownstreamError(name.replace("_", " "), kind=kind)
    for name, kind in _UPSTREAM_FLAGS:
        if getattr(flags, name):
            return UpstreamError(name.replace("_", " "), kind=kind)
    return None
