"""Reports and signs of life over a `Bus`: each region's node writes its own and reads the others'.

What is written is what the pull tells (`cluster/delta`): now and then a whole report, the *base*,
in parts that the store takes, and between what is new since, the *delta*. A *head* says which, and
is written again and again as a sign of life. It carries what is new since the head before, the
*step*, so that who follows the heads has all of it; who missed one reads delta, or base and delta.
Heads have a MAC of the cluster secret and the hashes of the rest: who may write to the store can
still not speak for a node. What a node that is gone has left there says nothing about now.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from onetrip.cluster.bus import Bucket, Change
from onetrip.cluster.delta import Delta, ReportCopy, ReportLog, decode_delta, encode_delta
from onetrip.cluster.messages import MAX_REPORT_SIZE, Count, PolicyRow, Report
from onetrip.cluster.pace import Pace, beat_interval
from onetrip.cluster.state import ClusterState
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import PeerError
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

PART_SIZE = 512 * 1024
"""Bytes of one value; half of what a NATS server takes in a message unless told otherwise."""

MAX_PARTS = MAX_REPORT_SIZE // PART_SIZE
"""Parts of the longest base."""

MAX_STEP = 64 * 1024
"""Bytes of the longest step that a head carries; what is longer has to be read."""

REBASE_RATIO = 0.5
"""Share of its base that a delta may have before a new base is written instead."""

READS = 8
"""Reports read at the same time."""

MAX_TRIES = 5
"""Looks at a report that does not fit its head: another replica of the store may lag behind."""

HEAD, DELTA = ".head", ".delta"
"""Endings of a region's keys."""

PURPOSE = "bus-report"
"""What the MAC is for (`cluster/tickets`)."""

Digest = Annotated[bytes, Meta(max_length=32)]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says that a region's node lives, and where its newest report is.

    Attributes:
        boot, seq: of the newest report, as in `Report`.
        beat: grows with each head of one boot.
        base: the report that is stored whole; the rest is its delta.
        slot: where its parts are; those of the base before are in the other one, left alone.
        digest, delta: of the base as it is stored, and of the delta; empty when there is none.
        prev, step: what is new since that report, encoded; empty when it has to be read.
        mac: of everything else.
    """

    boot: float
    seq: Count
    beat: Count
    base: Count
    slot: Annotated[int, Meta(ge=0, le=1)]
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    digest: Digest
    delta: Digest = b""
    prev: Count = 0
    step: Annotated[bytes, Meta(max_length=MAX_STEP)] = b""
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
        look: returns what this node has told, with its report of this moment.
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
        look: Callable[[], ReportLog],
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
        self._look = look
        self._on_policies = on_policies
        self._on_report = on_report
        self._interval = interval
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._pace = Pace()
        self._head: Head | None = None  # None until a base is written
        self._base_size = self._size = 0
        self._slot = 0
        self._beat, self._beat_at = 0, -math.inf
        self._is_told = False  # what the bucket held already has been told
        self._newest: dict[RegionId, tuple[float, int]] = {}
        self._copies: dict[RegionId, ReportCopy] = {}
        self._wanted: dict[RegionId, Wanted] = {}
        self._refused: set[RegionId] = set()

    async def open(self) -> None:
        """Follow the heads; write a base anew, for the store may have lost it."""
        self._head = None
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
        log, now = self._look(), self._clock.now()
        regions = 1 + len(self._state.peers(now))
        known = self._head
        is_base_due = known is None or known.boot != log.boot or self._pace.is_base_due(now)
        is_news = known is not None and log.news_seq > known.seq
        is_urgent = known is not None and log.urgent_seq > known.seq
        if is_base_due or self._pace.is_due(now, is_news=is_news, is_urgent=is_urgent):
            step = self._step(log, known)
            head = await self._write_report(log, known, is_base=is_base_due)
            head = msgspec.structs.replace(head, **step)
            self._pace.wrote(len(head.step) or self._size, regions, now, is_base=is_base_due)
        elif known is None or now - self._beat_at < beat_interval(self._interval, regions):
            return
        else:
            head = msgspec.structs.replace(known, prev=0, step=b"")
        self._beat += 1
        self._beat_at = now
        self._head = head = msgspec.structs.replace(head, beat=self._beat, mac="")
        signed = msgspec.structs.replace(head, mac=self._mac(self._region, head))
        await self._bucket.put(f"{self._region}{HEAD}", msgspec.msgpack.encode(signed))

    def _step(self, log: ReportLog, known: Head | None) -> dict[str, Any]:
        if known is None or not log.has(known.boot, known.seq):
            return {"prev": 0, "step": b""}
        step = log.encoded(known.boot, known.seq)
        return {"prev": known.seq, "step": step if len(step) <= MAX_STEP else b""}

    async def _write_report(self, log: ReportLog, known: Head | None, *, is_base: bool) -> Head:
        """Write a delta, or a base where that does better; return the head that says so."""
        if is_base or known is None or not log.has(known.boot, known.base):
            return await self._write_base(log)
        seq, body = log.seq, log.encoded(known.boot, known.base)
        if len(body) > min(PART_SIZE, REBASE_RATIO * self._base_size):
            return await self._write_base(log)
        await self._bucket.put(f"{self._region}{DELTA}", body)
        self._size = len(body)
        return msgspec.structs.replace(known, seq=seq, delta=_digest(body))

    async def _write_base(self, log: ReportLog) -> Head:
        boot, seq = log.boot, log.seq
        body = await asyncio.to_thread(encode_delta, log.delta())
        parts = [body[at : at + PART_SIZE] for at in range(0, len(body), PART_SIZE)]
        self._slot = 1 - self._slot
        for number, part in enumerate(parts):
            await self._bucket.put(f"{self._region}.{self._slot}.{number}", part)
        self._base_size = self._size = len(body)
        return Head(boot, seq, self._beat, seq, self._slot, len(parts), _digest(body))

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
        now, copy = self._clock.now(), self._copies.get(region)
        self._state.hear(region, now)
        known = self._wanted.pop(region, None)
        if copy is not None and (copy.boot, copy.seq) == head.report:
            return
        tries = known.tries if known is not None and known.head.report == head.report else 0
        wanted = Wanted(head, now, tries)
        if head.step and copy is not None and (copy.boot, copy.seq) == (head.boot, head.prev):
            self._read_bodies(region, wanted, [head.step])
        else:
            self._wanted[region] = wanted

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
        head, copy = wanted.head, self._copies.get(region)
        is_based = copy is not None and copy.boot == head.boot and head.base <= copy.seq
        base = [] if is_based else [f"{region}.{head.slot}.{n}" for n in range(head.parts)]
        delta = [f"{region}{DELTA}"] if head.delta else []
        bodies = [(await self._body(keys), keys) for keys in (base, delta) if keys]
        if self._wanted.get(region) is not wanted:
            return  # there is a newer one already
        del self._wanted[region]
        if any(_digest(b) != (head.digest if k is base else head.delta) for b, k in bodies):
            if wanted.tries + 1 < MAX_TRIES:
                self._wanted[region] = replace(wanted, tries=wanted.tries + 1)
            else:
                self._refuse(region, "it is not what its head says")
            return
        self._read_bodies(region, wanted, [body for body, _ in bodies])

    def _read_bodies(self, region: RegionId, wanted: Wanted, bodies: list[bytes]) -> None:
        try:
            self._take(region, wanted, [decode_delta(body) for body in bodies])
        except PeerError as error:
            self._copies.pop(region, None)
            self._refuse(region, str(error))

    async def _body(self, keys: list[str]) -> bytes:
        parts = [await self._bucket.get(key) for key in keys]
        return b"".join(part.value or b"" for part in parts if part is not None)

    def _take(self, region: RegionId, wanted: Wanted, deltas: list[Delta]) -> None:
        copy = self._copies.setdefault(region, ReportCopy())
        report: Report | None = None
        policies: list[PolicyRow] = []
        for delta in deltas:
            if delta.region != region:
                raise PeerError(f"it claims to be of {delta.region!r}")
            report = copy.apply(delta, wanted.at)
            policies += report.policies if report is not None else []
        if report is None or (report.boot, report.seq) != wanted.head.report:
            raise PeerError("it is of another time than its head")
        self._refused.discard(region)
        report = msgspec.structs.replace(report, policies=policies)
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


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _signed(region: RegionId, head: Head) -> tuple[bytes, bytes]:
    return region.encode(), msgspec.msgpack.encode(head)
