"""What is declared at run time over a `Bus`: one key for each thing, one row as its value.

Every node may write every key, so a key is written only over the revision that was read, and what
was read is merged first: no statement is lost, whoever is faster. The node that took a statement
writes it at once; the others see to it a while later, for rows whose node is gone or not on the
bus. A watch brings each change to every node. Rows carry a MAC of the cluster secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from onetrip.cluster.bus import Bucket, Change
from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.resources import decode_rows, encode_rows
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import Kind, PeerError
from onetrip.model.resource import Resource, ResourceKey
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.release.registry import MAX_BODY
from onetrip.timing import Clock

WRITES = 16
"""Rows written at the same time."""

MAX_WRITES = 256
"""Rows written in one round; the rest waits for the next."""

MAX_TRIES = 8
"""Writes of one row that others may be faster than, in one round."""

EARLIEST, LATEST = 5.0, 30.0
"""Seconds until a node writes a row that another one ought to have written, at random between."""

AUDIT_INTERVAL = 600.0
"""Seconds between two comparisons of everything here with everything there."""

MAX_KEY = 512
"""Characters of a key; of a thing with longer names it holds a hash."""

MAX_TOLD = 100
"""Keys that are remembered as refused, so that each is told once."""

POLICY = "policy"
"""First part of the keys of policy overrides; the others' is the kind of their thing."""

PURPOSE = "bus-row"
"""What the MAC is for (`cluster/tickets`)."""

Row = Resource | PolicyRow
Thing = ResourceKey | str
"""What a row is about: something declared, or the policy of a project."""

Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class Ledger(Protocol):
    """The rows that this node has."""

    def rows(self) -> Iterable[Row]:
        """Return all of them."""

    def find(self, thing: Thing) -> Row | None:
        """Return what is known of a thing, gone or not."""

    def is_over(self, row: Row) -> bool:
        """Tell whether a row is about something that is gone for so long that nobody asks."""

    async def take(self, rows: Sequence[Row]) -> None:
        """Merge rows of other nodes; those that are older than what is known change nothing."""


class Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A row as a value."""

    body: Annotated[bytes, Meta(max_length=MAX_BODY + 8192)]
    mac: Annotated[str, Meta(max_length=64)]


_SEALED = msgspec.msgpack.Decoder(Sealed)
_POLICY = msgspec.msgpack.Decoder(PolicyRow)
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")


def thing_of(row: Row) -> Thing:
    """Return what a row is about."""
    return row.key if isinstance(row, Resource) else row.project


def is_newer(row: Row, than: Row) -> bool:
    """Tell which of two rows about one thing counts."""
    order: tuple[Any, ...] = row.order
    return order > than.order


def key_of(thing: Thing) -> str:
    """Return the key of a thing: its kind, project and name, `=2E` for a dot."""
    words = (POLICY, thing) if isinstance(thing, str) else (thing.kind.value, *thing[1:])
    key = ".".join(_plain(word) or "=" for word in words)
    if len(key) > MAX_KEY:
        return f"{words[0]}.={hashlib.sha256(repr(words).encode()).hexdigest()}"
    return key


def seal(secret: bytes, row: Row) -> bytes:
    """Return a row as a value."""
    body = encode_rows([row]) if isinstance(row, Resource) else msgspec.msgpack.encode(row)
    mac = sign(secret, PURPOSE, key_of(thing_of(row)).encode(), body)
    return msgspec.msgpack.encode(Sealed(body, mac))


def unseal(secret: bytes, key: str, value: bytes) -> Row:
    """Return the checked row that is under a key.

    Raises:
        PeerError: it is no row, of another thing, or not made with the cluster secret.
    """
    try:
        sealed = _SEALED.decode(value)
        if not verify(secret, sealed.mac, PURPOSE, key.encode(), sealed.body):
            raise PeerError("it is not made with the cluster secret")
        if key.startswith(f"{POLICY}."):
            row: Row = _POLICY.decode(sealed.body)
        else:
            (row,) = decode_rows(sealed.body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise PeerError(f"row cannot be read: {error}", kind=Kind.MALFORMED) from error
    if key_of(thing_of(row)) != key:
        raise PeerError("it is about something else")
    return row


class SharedRows:
    """Keeps a bucket and a node's `ledger` alike.

    Args:
        wake: has `tick` run soon.
        spawn: runs a task of a name.
    """

    def __init__(
        self,
        region: RegionId,
        secret: bytes,
        bucket: Bucket,
        ledger: Ledger,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        wake: Callable[[], object],
        spawn: Spawn,
    ) -> None:
        self._region = region
        self._secret = secret
        self._bucket = bucket
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._wake = wake
        self._spawn = spawn
        self._due: dict[Thing, float] = {}
        self._arrived: dict[Thing, Row] = {}
        self._is_taking = False
        self._there: set[str] | None = set()  # until everything in the bucket was told
        self._opened_at = 0.0
        self._refused: set[str] = set()
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Follow the bucket; what it holds is merged, what it lacks is written."""
        self._there = set()
        self._opened_at = self._clock.now()
        await self._bucket.watch(">", self._on_change)

    def offer(self, rows: Iterable[Row]) -> None:
        """Have rows written that this node took, or learned of elsewhere."""
        self._schedule(rows)
        self._wake()

    async def tick(self) -> None:
        """Write what is due, and compare everything now and then."""
        async with self._lock:
            if self._clock.now() - self._opened_at > AUDIT_INTERVAL:
                await self.open()
            now = self._clock.now()
            due = [thing for thing, at in self._due.items() if at <= now][:MAX_WRITES]
            for at in range(0, len(due), WRITES):
                await asyncio.gather(*(self._agree(each) for each in due[at : at + WRITES]))

    # --- writing ----------------------------------------------------------------------------

    def _schedule(self, rows: Iterable[Row]) -> None:
        now = self._clock.now()
        for row in rows:
            is_ours = row.origin == self._region
            at = now if is_ours else now + self._rng.uniform(EARLIEST, LATEST)
            thing = thing_of(row)
            self._due[thing] = min(at, self._due.get(thing, at))

    async def _agree(self, thing: Thing) -> None:
        """Make the bucket and this node know the same of a thing."""
        at = self._due.get(thing)
        for _ in range(MAX_TRIES):
            if await self._settle(thing):
                if self._due.get(thing) == at:  # nothing newer was offered meanwhile
                    self._due.pop(thing, None)
                return

    async def _settle(self, thing: Thing) -> bool:
        """Do one step towards it; tell whether it was the last one."""
        bucket, key = self._bucket, key_of(thing)
        there = await bucket.get(key)
        theirs = self._read(there) if there is not None else None
        mine = self._ledger.find(thing)
        if there is not None and theirs is not None:
            if mine is None and self._ledger.is_over(theirs):
                await bucket.delete(key, there.revision)
                return True
            if mine is None or is_newer(theirs, mine):
                await self._ledger.take([theirs])
                return True
            if not is_newer(mine, theirs):
                return True
        if mine is None:
            return True
        revision = there.revision if there is not None else 0
        is_written = await bucket.swap(key, seal(self._secret, mine), revision)
        self._metrics.nats_rows.labels("written" if is_written else "conflict").inc()
        return is_written

    # --- reading ----------------------------------------------------------------------------

    def _on_change(self, change: Change | None) -> None:
        if change is None:
            self._compare()
            return
        row = self._read(change)
        if row is None:
            return
        if self._there is not None:
            self._there.add(change.key)
        thing = thing_of(row)
        mine = self._arrived.get(thing) or self._ledger.find(thing)
        if mine is None and self._ledger.is_over(row):
            self._due.setdefault(thing, self._later())
        elif mine is None or is_newer(row, mine):
            self._arrived[thing] = row
            if self._there is None:
                self._take_soon()
        elif is_newer(mine, row):
            self._due.setdefault(thing, self._later())
        else:
            self._due.pop(thing, None)

    def _compare(self) -> None:
        """Everything in the bucket was told: what it lacks is to be written."""
        there, self._there = self._there or set(), None
        lacking = [r for r in self._ledger.rows() if key_of(thing_of(r)) not in there]
        self._schedule(row for row in lacking if not self._ledger.is_over(row))
        self._take_soon()

    def _take_soon(self) -> None:
        if self._arrived and not self._is_taking:
            self._is_taking = True
            self._spawn(self._take(), "rows")

    async def _take(self) -> None:
        """Merge what arrived; what arrives meanwhile is merged at one go after it."""
        try:
            while self._arrived:
                rows, self._arrived = list(self._arrived.values()), {}
                try:
                    await self._ledger.take(rows)
                    self._metrics.nats_rows.labels("taken").inc(len(rows))
                except Exception:
                    for row in rows:  # it is looked at again
                        self._due.setdefault(thing_of(row), self._later())
                    raise
        finally:
            self._is_taking = False

    def _read(self, change: Change) -> Row | None:
        """Return a row; None for what is none, which counts as if it were not there."""
        if change.value is None:
            return None
        try:
            row = unseal(self._secret, change.key, change.value)
        except PeerError as error:
            self._metrics.nats_rows.labels("refused").inc()
            if change.key not in self._refused and len(self._refused) < MAX_TOLD:
                self._refused.add(change.key)
                self._log.warning("cluster.row_refused", key=change.key, reason=str(error))
            return None
        self._refused.discard(change.key)
        return row

    def _later(self) -> float:
        return self._clock.now() + self._rng.uniform(EARLIEST, LATEST)


def _plain(text: str) -> str:
    return _OTHER.sub(lambda m: "".join(f"={b:02X}" for b in m[0].encode()), text)
