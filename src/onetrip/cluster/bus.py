"""Reports by way of a key-value store that all nodes reach, beside the pull of `cluster/sync`.

Each region's node writes its own report and reads the others'. A report is compressed, cut into
parts that the store takes, and carries a MAC of the cluster secret, so that who may write to the
store can still not speak for a node. Only a report newer than the one before counts as a sign of
life: what a node that is gone has left in the store says nothing about now.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from random import Random
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from onetrip.cluster.messages import (
    MAX_REPORT_SIZE,
    PolicyRow,
    Report,
    decode_report,
    encode_report,
)
from onetrip.cluster.state import ClusterState
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import Kind, PeerError
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

PART_SIZE = 512 * 1024
"""Bytes of one value; half of what a NATS server takes in a message unless told otherwise."""

MAX_PARTS = MAX_REPORT_SIZE // PART_SIZE
"""Parts of the longest report."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the store is tried again after a failure: doubled each time, up to the second."""

PURPOSE = "bus-report"
"""What the MAC is for (`cluster/tickets`)."""


class Bus(Protocol):
    """A key-value store; every method raises `PeerError` when it cannot be done."""

    async def connect(self) -> None:
        """Connect; called again after a failure."""

    async def put(self, key: str, value: bytes) -> None:
        """Write one value."""

    async def get(self, key: str) -> bytes | None:
        """Return one value, or None where there is none."""

    async def close(self) -> None:
        """Disconnect; never raises."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a region's newest report is; the parts of the one before are left alone."""

    slot: Annotated[int, Meta(ge=0, le=1)]
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    mac: Annotated[str, Meta(max_length=64)]


_HEAD = msgspec.msgpack.Decoder(Head)


def pack(report: Report) -> bytes:
    """Return a report, compressed."""
    return zlib.compress(encode_report(report), 1)


def unpack(body: bytes) -> Report:
    """Return a checked report.

    Raises:
        PeerError: it cannot be read, or a value or its size is out of range.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(body, MAX_REPORT_SIZE + 1)
    except zlib.error as error:
        raise PeerError(f"report cannot be read: {error}", kind=Kind.MALFORMED) from error
    return decode_report(data)


class SharedReports:
    """Writes this node's report to `bus` and merges those of the others into `state`.

    Args:
        report: makes this node's current report.
        on_policies: called with overrides that a peer knew and this node did not.
        on_report: told of every new report.
        tell: keeps an event: name, subject, detail.
    """

    def __init__(
        self,
        region: RegionId,
        secret: bytes,
        bus: Bus,
        state: ClusterState,
        report: Callable[[], Report],
        on_policies: Callable[[list[PolicyRow]], None],
        on_report: Callable[[Report], None],
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], None],
    ) -> None:
        self._region = region
        self._secret = secret
        self._bus = bus
        self._state = state
        self._report = report
        self._on_policies = on_policies
        self._on_report = on_report
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._slot = 0
        self._heads: dict[RegionId, bytes] = {}
        self._newest: dict[RegionId, tuple[float, int]] = {}
        self._refused: set[RegionId] = set()
        self._is_connected = self._is_lost = False
        self._pause, self._retry_at = FIRST_PAUSE, 0.0

    async def exchange(self) -> None:
        """Write this node's report and read the others'; after a failure, wait before the next."""
        if not self._is_connected and self._clock.now() < self._retry_at:
            return
        try:
            if not self._is_connected:
                await self._bus.connect()
                self._is_connected = True
            await self._write()
            for peer in self._state.peers(self._clock.now()):
                await self._read(peer.region)
        except PeerError as error:
            await self._lose(error)
            return
        self._pause = FIRST_PAUSE
        self._metrics.nats_connected.set(1)
        if self._is_lost:
            self._is_lost = False
            self._log.info("cluster.nats_found")
            self._tell("cluster.nats_found", self._region, "reports are exchanged again")

    async def close(self) -> None:
        """Disconnect."""
        self._is_connected = False
        self._metrics.nats_connected.set(0)
        await self._bus.close()

    async def _lose(self, error: PeerError) -> None:
        await self.close()
        # Nodes that lost one server together do not come back to it together.
        self._retry_at = self._clock.now() + self._pause * (0.5 + self._rng.random())
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        if not self._is_lost:
            self._is_lost = True
            self._log.warning("cluster.nats_lost", reason=str(error))
            self._tell("cluster.nats_lost", self._region, str(error))

    async def _write(self) -> None:
        body = await asyncio.to_thread(pack, self._report())
        parts = [body[at : at + PART_SIZE] for at in range(0, len(body), PART_SIZE)]
        self._slot = 1 - self._slot
        for number, part in enumerate(parts):
            await self._bus.put(f"{self._region}.{self._slot}.{number}", part)
        head = Head(self._slot, len(parts), sign(self._secret, PURPOSE, self._who(), body))
        await self._bus.put(f"{self._region}.head", msgspec.msgpack.encode(head))

    async def _read(self, region: RegionId) -> None:
        data = await self._bus.get(f"{region}.head")
        if data is None or data == self._heads.get(region):
            return
        self._heads[region] = data
        try:
            head = _HEAD.decode(data)
        except msgspec.DecodeError as error:
            self._refuse(region, f"head cannot be read: {error}")
            return
        parts = [await self._bus.get(f"{region}.{head.slot}.{n}") for n in range(head.parts)]
        body = b"".join(part or b"" for part in parts)
        if not verify(self._secret, head.mac, PURPOSE, self._who(region), body):
            self._refuse(region, "it is incomplete or not made with the cluster secret")
            return
        try:
            self._take(region, unpack(body))
        except PeerError as error:
            self._refuse(region, str(error))

    def _who(self, region: RegionId | None = None) -> bytes:
        return (region or self._region).encode()

    def _take(self, region: RegionId, report: Report) -> None:
        if report.region != region:
            raise PeerError(f"it claims to be of {report.region!r}")
        self._refused.discard(region)
        order, before = (report.boot, report.seq), self._newest.get(region)
        if before is not None and order <= before:
            return
        self._newest[region] = order
        now = self._clock.now()
        # The first one read may be what a node left that is long gone: only its overrides count.
        is_alive = before is not None
        merged = self._state.merge(report, now) if is_alive else None
        news = self._state.merge_policies(report.policies) if merged is None else merged
        if news:
            self._on_policies(news)
        if is_alive:
            self._on_report(report)

    def _refuse(self, region: RegionId, reason: str) -> None:
        self._metrics.sync_failures.labels(region).inc()
        if region not in self._refused:
            self._refused.add(region)
            self._log.warning("cluster.report_refused", region=region, reason=reason)
