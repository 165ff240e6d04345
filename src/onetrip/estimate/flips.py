"""Trips that relays counted, attributed to routes: a second of counts against what ran in it.

Requests are filed in cells of one second, each by the share of its service interval that lies in
the cell; relays report the trips of about the same seconds. A cell is settled once the requests
that ran in it have ended: if every relay of a backend has told about it, it becomes one equation
of `estimate/tripfit`. A cell that a relay is silent about is dropped, since its counts are not
complete. A request that ends more than `HOLD` after a cell is not counted in it.

Every time here is Unix time, s: the node's for requests and "now", the relay's in its reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from onetrip.errors import Kind, OnetripError
from onetrip.estimate.relays import RelayStream
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey, TripEvidence
from onetrip.model.relay import FlipReport, RelayStatus

HOLD = 5.0
"""Seconds a cell waits for the requests that ran in it to end, and for reports about it."""

MAX_CELL_ROUTES = 1024
"""Routes filed in one cell."""

MAX_STREAMS = 64
"""Backends (per project) with relays."""

MAX_GAP = 120
"""Cells settled at once; after a longer pause of the node what lies before is dropped."""


class Relayed(NamedTuple):
    """What the relays of one backend told about routes, to be kept over a restart.

    Attributes:
        project: the only project whose requests come through them; "" for every bound one.
        heard_at: when their newest report arrived, Unix time, s.
    """

    backend: str
    project: str
    heard_at: float
    found: tuple[tuple[RouteKey, TripEvidence], ...]


class FlipsBook:
    """What is known from the relays of one node's region."""

    def __init__(self) -> None:
        self._backends: Mapping[EnvironmentId, tuple[str, ...]] = {}
        self._followed: frozenset[EnvironmentId] = frozenset()
        self._streams: dict[tuple[str, str], RelayStream] = {}
        self._cells: dict[int, dict[RouteKey, float]] = {}
        self._next = 0
        """First cell that is not settled."""

    def update(self, backends: Mapping[EnvironmentId, tuple[str, ...]]) -> None:
        """Take over the backends of each environment."""
        self._backends = dict(backends)
        known = {name for names in backends.values() for name in names}
        for key in [k for k in self._streams if k[0] not in known]:
            del self._streams[key]
        self._follow()

    def observe(
        self,
        key: RouteKey,
        started_at: float,
        ended_at: float,
        is_error: bool = False,
        rtt: float = 0.0,
    ) -> None:
        """File a request that ran in this region, from sent to an instance to first byte.

        Without a relay of a backend that its environment uses this does nothing.

        Args:
            rtt: of one trip, s. A trip is counted when it ends, half of it after its middle, so
                the request is filed that much later; unequal lags at the edges of busy times
                would otherwise be taken for trips of long requests.
        """
        started_at, ended_at = started_at + rtt / 2, ended_at + rtt / 2
        if key.environment not in self._followed or not started_at <= ended_at:
            return
        if is_error:
            key = _failed(key.environment)
        first, last = int(started_at), int(ended_at)
        if last > self._next + MAX_GAP:
            return
        for index in range(max(first, self._next), last + 1):
            share = 1.0
            if last > first:
                inside = min(ended_at, index + 1.0) - max(started_at, float(index))
                share = inside / (ended_at - started_at)
            cell = self._cells.setdefault(index, {})
            if key in cell or len(cell) < MAX_CELL_ROUTES:
                cell[key] = cell.get(key, 0.0) + share

    def report(self, report: FlipReport, now: float) -> None:
        """Take one relay's interval.

        Raises:
            OnetripError: kind OVERLOADED, more backends or relays than are followed.
        """
        self._stream(report, now).take(report, now, self._next)

    def settle(self, now: float) -> None:
        """Turn the cells whose requests have ended into equations."""
        due = math.floor(now - HOLD)
        if due < self._next - MAX_GAP:
            # The machine's clock was set back: begin again.
            self._next = int(now) + 1
            self._cells.clear()
            for stream in self._streams.values():
                stream.restart()
        if not self._streams or due <= self._next:
            return
        self._next = max(self._next, due - MAX_GAP)
        for index in range(self._next, due):
            cell = self._cells.pop(index, {})
            for stream in self._streams.values():
                stream.settle(index, cell, self._routes_of(stream))
        self._next = due
        for index in [i for i in self._cells if i < due]:
            del self._cells[index]
        for stream in self._streams.values():
            stream.trim(due)

    def evidence(self, now: float) -> dict[RouteKey, list[TripEvidence]]:
        """Return the trips of each route that enough requests of were seen."""
        out: dict[RouteKey, list[TripEvidence]] = {}
        for stream in self._streams.values():
            for key, found in stream.evidence(now):
                out.setdefault(key, []).append(found)
        return out

    def kept(self, now: float) -> list[Relayed]:
        """Return what is worth remembering over a restart of the node."""
        return [
            Relayed(backend, project, stream.heard_at, found)
            for (backend, project), stream in self._streams.items()
            if (found := tuple(stream.evidence(now)))
        ]

    def restore(self, rows: Iterable[Relayed], now: float) -> None:
        """Take over what an earlier run of the node knew; what is new already stays."""
        for row in rows:
            key = (row.backend, row.project)
            if key not in self._streams and len(self._streams) < MAX_STREAMS:
                self._open(key, now).restore(row.found, min(row.heard_at, now))

    def forget(self, key: RouteKey) -> None:
        """Begin again with a route whose code has changed."""
        for stream in self._streams.values():
            stream.forget(key)

    def statuses(self, now: float) -> list[RelayStatus]:
        """Describe the relays, by backend and project."""
        return [self._streams[key].status(now) for key in sorted(self._streams)]

    def _stream(self, report: FlipReport, now: float) -> RelayStream:
        key = (report.backend, report.project)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                raise OnetripError(
                    f"relays of more than {MAX_STREAMS} backends", kind=Kind.OVERLOADED
                )
            stream = self._open(key, now)
        return stream

    def _open(self, key: tuple[str, str], now: float) -> RelayStream:
        if not self._streams:
            self._next = int(now) + 1
        stream = self._streams[key] = RelayStream(*key)
        self._follow()
        return stream

    def _follow(self) -> None:
        relayed = {backend for backend, _ in self._streams}
        self._followed = frozenset(
            env for env, names in self._backends.items() if relayed.intersection(names)
        )

    def _routes_of(self, stream: RelayStream) -> frozenset[EnvironmentId]:
        # A relay of one project takes that project away from the backend's common relays.
        own = {p for b, p in self._streams if b == stream.backend and p}
        return frozenset(
            env
            for env, names in self._backends.items()
            if stream.backend in names
            and (env.project == stream.project if stream.project else env.project not in own)
        )


def _failed(environment: EnvironmentId) -> RouteKey:
    # What a failed request asked its backends teaches nothing about its route.
    return RouteKey(environment, "", MethodClass.READ)
