"""Reports and signs of life over a `Bus`: each region's node writes its own and reads the others'.

A report is compressed, cut into parts that the store takes, and carries a MAC of the cluster
secret, so that who may write to the store can still not speak for a node. What tells of it, the
*head*, is written again and again as a sign of life; the report only when it says something new
(`cluster/pace`). What a node that is gone has left in the store says nothing about now.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from msgspec import Meta

from onetrip.cluster.bus import Bucket, Change
from onetrip.cluster.messages import (
    MAX_REPORT_SIZE,
    Count,
    PolicyRow,
    Report,
    decode_report,
    encode_report,
)
from onetrip.cluster.pace import Pace, beat_interval
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

READS = 8
"""Reports read at the same time."""

MAX_TRIES = 5
"""Looks at a report that does not fit its head: another replica of the store may lag behind."""

HEAD = ".head"
"""Ending of the key of a region's head."""

PURPOSE = "bus-report"
"""What the MAC is for (`cluster/tickets`)."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says that a region's node lives, and where its newest report is.

    Attributes:
        boot, seq: of the report, as in `Report`.
        beat: grows with each head of one boot.
        slot: the parts of the report before are in the other one, and left alone.
        digest: of the report as it is stored.
        mac: of the rest.
    """

    boot: float
    seq: Count
    beat: Count
    slot: Annotated[int, Meta(ge=0, le=1)]
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    digest: Annotated[bytes, Meta(max_length=32)]
    mac: Annotated[str, Meta(max_length=64)] = ""

    @property
    def order(self) -> tuple[float, int]:
        """Order of the heads of one region."""
        return (self.boot, self.beat)

    @property
    def report(self) -> tuple[float, int]:
        """Order of the reports of one region."""
        return (self.boot, self.seq)


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A report to be read.

    Attributes:
        at: when its head arrived, s; how old its figures are counts from then.
        tries: how often what was read did not fit the head.
    """

    head: Head
    at: float
    tries: int = 0


class SharedReports:
    """Writes this node's report to a bucket and merges those of the others into `state`.

    Args:
        report: makes this node's current report.
        on_policies: called with overrides that a peer knew and this node did not.
        on_report: told of every new report.
        interval: least time between two heads, s.
    """

    def __init__(
        self,
        region: RegionId,
        secret: bytes,
        bucket: Bucket,
        state: ClusterState,
        report: Callable[[], Report],
        on_policies: Callable[[list[PolicyRow]], None],
        on_report: Callable[[Report], None],
        *,
        interval: float,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._region = region
        self._secret = secret
        self._bucket = bucket
        self._state = state
        self._report = report
        self._on_policies = on_policies
        self._on_report = on_report
        self._interval = interval
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._pace = Pace(interval)
        self._head: Head | None = None
        self._beat, self._beat_at = 0, -math.inf
        self._is_told = False  # what the bucket held already has been told
        self._newest: dict[RegionId, tuple[float, int]] = {}
        self._merged: dict[RegionId, tuple[float, int]] = {}
        self._wanted: dict[RegionId, Wanted] = {}
        self._refused: set[RegionId] = set()

    async def open(self) -> None:
        """Follow the heads; write this node's report anew, for the store may have lost it."""
        self._pace.reset()
        self._is_told = False
        await self._bucket.watch(f"*{HEAD}", self._arrived)

    async def tick(self) -> None:
        """Write this node's head and report when they are due, and read reports that are new."""
        await self._write()
        wanted = list(self._wanted.items())
        for at in range(0, len(wanted), READS):
            batch = wanted[at : at + READS]
            await asyncio.gather(*(self._read(region, each) for region, each in batch))

    # --- writing ----------------------------------------------------------------------------

    async def _write(self) -> None:
        now, report = self._clock.now(), self._report()
        regions = 1 + len(self._state.peers(now))
        if self._pace.is_due(report, now):
            await self._write_report(report, regions, now)
        elif now - self._beat_at < beat_interval(self._interval, regions):
            return
        assert self._head is not None
        self._beat += 1
        self._beat_at = now
        head = msgspec.structs.replace(self._head, beat=self._beat, mac="")
        signed = msgspec.structs.replace(head, mac=self._mac(self._region, head))
        await self._bucket.put(f"{self._region}{HEAD}", msgspec.msgpack.encode(signed))

    async def _write_report(self, report: Report, regions: int, now: float) -> None:
        body = await asyncio.to_thread(pack, report)
        parts = [body[at : at + PART_SIZE] for at in range(0, len(body), PART_SIZE)]
        slot = 1 - self._head.slot if self._head is not None else 0
        for number, part in enumerate(parts):
            await self._bucket.put(f"{self._region}.{slot}.{number}", part)
        digest = hashlib.sha256(body).digest()
        self._head = Head(report.boot, report.seq, self._beat, slot, len(parts), digest)
        self._pace.wrote(report, len(body), regions, now)

    # --- reading ----------------------------------------------------------------------------

    def _arrived(self, change: Change | None) -> None:
        """Take in a head; only one newer than the one before is a sign of life."""
        if change is None:
            self._is_told = True
            return
        region = RegionId(change.key.removesuffix(HEAD))
        if change.value is None or region not in self._state.regions or region == self._region:
            return
        try:
            head = self._checked(region, change.value)
        except PeerError as error:
            self._refuse(region, str(error))
            return
        before = self._newest.get(region)
        if before is not None and head.order <= before:
            return
        self._newest[region] = head.order
        if before is None or not self._is_told:
            return  # what its node left in the store, perhaps long ago
        now = self._clock.now()
        self._state.hear(region, now)
        if head.report != self._merged.get(region):
            known = self._wanted.get(region)
            is_same = known is not None and known.head.report == head.report
            self._wanted[region] = Wanted(head, now, known.tries if known and is_same else 0)

    def _checked(self, region: RegionId, value: bytes) -> Head:
        try:
            head = _HEAD.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise PeerError(f"head cannot be read: {error}") from error
        unsigned = msgspec.structs.replace(head, mac="")
        if not verify(self._secret, head.mac, PURPOSE, *_signed(region, unsigned)):
            raise PeerError("it is not made with the cluster secret")
        return head

    async def _read(self, region: RegionId, wanted: Wanted) -> None:
        head = wanted.head
        keys = [f"{region}.{head.slot}.{n}" for n in range(head.parts)]
        parts = [await self._bucket.get(key) for key in keys]
        body = b"".join(part.value or b"" for part in parts if part is not None)
        if self._wanted.get(region) is not wanted:
            return  # there is a newer one already
        del self._wanted[region]
        if hashlib.sha256(body).digest() != head.digest:
            if wanted.tries + 1 < MAX_TRIES:
                self._wanted[region] = replace(wanted, tries=wanted.tries + 1)
            else:
                self._refuse(region, "it is not what its head says")
            return
        try:
            self._take(region, wanted, unpack(body))
        except PeerError as error:
            self._refuse(region, str(error))

    def _take(self, region: RegionId, wanted: Wanted, report: Report) -> None:
        head = wanted.head
        if report.region != region or (report.boot, report.seq) != head.report:
            raise PeerError(f"it claims to be of {report.region!r}, or of another time")
        self._refused.discard(region)
        self._merged[region] = head.report
        news = self._state.merge(report, wanted.at)
        if news:
            self._on_policies(news)
        self._on_report(report)

    def _mac(self, region: RegionId, head: Head) -> str:
        return sign(self._secret, PURPOSE, *_signed(region, head))

    def _refuse(self, region: RegionId, reason: str) -> None:
        self._metrics.sync_failures.labels(region).inc()
        if region not in self._refused:
            self._refused.add(region)
            self._log.warning("cluster.report_refused", region=region, reason=reason)


def _signed(region: RegionId, head: Head) -> tuple[bytes, bytes]:
    return region.encode(), msgspec.msgpack.encode(head)
