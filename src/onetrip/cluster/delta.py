"""What is new in a report: the rows that changed since the one that a peer has.

The node that reports numbers its rows and notes with which report each was last told (`ReportLog`);
a peer says which report it has and gets the rows told since (`Delta`), and puts the whole together
(`ReportCopy`). A row is told again when it changed by more than noise. A delta holds everything
since its base, so that it fits every copy between its base and itself: copies may skip some, get
them twice or out of order, and who cannot use one asks for everything. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from onetrip.cluster.messages import (
    MAX_AGE,
    MAX_REPORT_SIZE,
    CodeChange,
    Count,
    EndpointRow,
    EvidenceRow,
    PolicyRow,
    Report,
    ServiceRow,
    check_report,
)
from onetrip.cluster.news import SECTIONS, Section
from onetrip.errors import Kind, PeerError
from onetrip.model.measure import RttEstimate
from onetrip.model.placement import Decision, WhatIf
from onetrip.model.status import LatencySummary
from onetrip.model.topology import RegionId

COMPRESSED_FROM = 256
"""Bytes from which a delta is compressed; shorter ones hardly shrink."""

KEPT_GONE = 20_000
"""Rows that are gone and remembered; who has an older report gets everything."""

ZLIB = 0x78
"""First byte of a compressed delta; the map that an encoded one is never begins with it."""


class Delta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rows of a report by their numbers; see `messages.Report` for the rest.

    Attributes:
        base: the report that it is to be put on; None holds everything.
        gone: numbers of rows that are no more, by section.
    """

    region: RegionId
    boot: float
    seq: Count
    base: Count | None = None
    is_draining: bool = False
    resources: Annotated[str, Meta(max_length=64)] = ""
    rtts: list[tuple[Count, RttEstimate]] = field(default_factory=list)
    services: list[tuple[Count, ServiceRow]] = field(default_factory=list)
    durations: list[tuple[Count, ServiceRow]] = field(default_factory=list)
    evidence: list[tuple[Count, EvidenceRow]] = field(default_factory=list)
    code_changes: list[tuple[Count, CodeChange]] = field(default_factory=list)
    endpoints: list[tuple[Count, EndpointRow]] = field(default_factory=list)
    decisions: list[tuple[Count, Decision]] = field(default_factory=list)
    what_if: list[tuple[Count, WhatIf]] = field(default_factory=list)
    latencies: list[tuple[Count, LatencySummary]] = field(default_factory=list)
    policies: list[tuple[Count, PolicyRow]] = field(default_factory=list)
    gone: dict[str, list[Count]] = field(default_factory=dict)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Delta)


def encode_delta(delta: Delta) -> bytes:
    """Return a delta as bytes, compressed where that saves something."""
    data = _ENCODER.encode(delta)
    return zlib.compress(data, 1) if len(data) >= COMPRESSED_FROM else data


def decode_delta(data: bytes) -> Delta:
    """Decode and check a peer's delta.

    Raises:
        PeerError: it cannot be read, or a value or its size is out of range.
    """
    try:
        if data[:1] == bytes([ZLIB]):
            stream = zlib.decompressobj()
            data = stream.decompress(data, MAX_REPORT_SIZE + 1)
            if len(data) <= MAX_REPORT_SIZE and not stream.eof:
                raise zlib.error("it is cut off")
        if len(data) > MAX_REPORT_SIZE:
            raise PeerError(f"report of over {MAX_REPORT_SIZE} bytes exceeds limit")
        delta = _DECODER.decode(data)
    except (msgspec.DecodeError, zlib.error, RecursionError) as error:
        raise PeerError(f"report cannot be read: {error}", kind=Kind.MALFORMED) from error
    rows: dict[str, Any] = {s.name: [row for _, row in getattr(delta, s.name)] for s in SECTIONS}
    check_report(Report(delta.region, delta.boot, delta.seq, **rows))
    return delta


class _Told:
    """A row as it was told last.

    Attributes:
        number: names it in deltas.
        seq, at: of the report that told it, and when, s.
    """

    __slots__ = ("at", "number", "row", "seq")

    def __init__(self, number: int, row: Any, seq: int, at: float) -> None:
        self.number = number
        self.row = row
        self.seq = seq
        self.at = at


class ReportLog:
    """What this node told, and since when.

    Attributes:
        boot, seq: of the newest report; 0 before the first.
        urgent_seq: the newest report with something that peers should know at once.
        news_seq: the newest report that told anything.
    """

    def __init__(self) -> None:
        self.boot, self.seq, self.urgent_seq, self.news_seq = 0.0, 0, 0, 0
        self._now = 0.0
        self._region = RegionId("")
        self._facts: tuple[bool, str] = (False, "")
        # In the order of their last change, so that a delta reads only what it tells.
        self._told: dict[str, dict[object, _Told]] = {s.name: {} for s in SECTIONS}
        self._gone: list[tuple[int, str, int]] = []
        self._floor = 0
        self._numbers = 0
        self._encoded: dict[int | None, bytes] = {}

    def note(self, report: Report, now: float, *, is_urgent: bool = False) -> None:
        """Take the newest report, made at monotonic time `now`.

        Args:
            is_urgent: it has something that peers should know at once.
        """
        self._region, self.boot, self.seq, self._now = report.region, report.boot, report.seq, now
        facts = (report.is_draining, report.resources)
        is_urgent |= report.is_draining is not self._facts[0]
        if facts != self._facts:
            self.news_seq = self.seq
        self._facts = facts
        for section in SECTIONS:
            is_urgent |= self._note(section, getattr(report, section.name), now)
        if is_urgent:
            self.urgent_seq = self.seq
        if len(self._gone) > KEPT_GONE:
            self._floor = self._gone[-KEPT_GONE // 2][0]
            self._gone = [row for row in self._gone if row[0] > self._floor]
        self._encoded.clear()

    def has(self, boot: float, seq: int) -> bool:
        """Tell whether a peer with this report can be told what is new since."""
        return boot == self.boot and max(1, self._floor) <= seq <= self.seq

    def encoded(self, boot: float, seq: int) -> bytes:
        """Return, encoded, what a peer with that report does not know yet."""
        base = seq if self.has(boot, seq) else None
        found = self._encoded.get(base)
        if found is None:
            found = self._encoded[base] = encode_delta(self.delta(base))
        return found

    def delta(self, base: int | None = None) -> Delta:
        """Return what was told since report `base`; everything without one."""
        since = -1 if base is None else base
        rows: dict[str, Any] = {s.name: self._since(s, since) for s in SECTIONS}
        gone: dict[str, list[int]] = {}
        for seq, name, number in self._gone:
            if base is not None and seq > base:
                gone.setdefault(name, []).append(number)
        return Delta(
            self._region,
            self.boot,
            self.seq,
            base,
            *self._facts,
            gone=gone,
            **rows,
        )

    def _note(self, section: Section, rows: Iterable[Any], now: float) -> bool:
        told, is_urgent = self._told[section.name], False
        found: set[object] = set()
        for row in rows:
            key: object = section.identity(row)
            while key in found:  # two rows alike are two rows
                key = (key,)
            found.add(key)
            known = told.get(key)
            if known is None:
                self._numbers += 1
                known = _Told(self._numbers, row, self.seq, now)
                is_urgent |= section.is_urgent(None, row)
            elif row is known.row or not section.is_news(known.row, row, now - known.at):
                continue
            else:
                is_urgent |= section.is_urgent(known.row, row)
                known.row, known.seq, known.at = row, self.seq, now
                del told[key]
            told[key] = known
            self.news_seq = self.seq
        for key in told.keys() - found if len(told) > len(found) else ():
            self._gone.append((self.seq, section.name, told.pop(key).number))
            self.news_seq = self.seq
        return is_urgent

    def _since(self, section: Section, seq: int) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        for told in reversed(self._told[section.name].values()):
            if told.seq <= seq:
                break
            found.append((told.number, section.aged(told.row, self._now - told.at)))
        return found


class ReportCopy:
    """What a peer has told, put together.

    Attributes:
        boot, seq: of the report that it is; 0 before the first.
    """

    def __init__(self) -> None:
        self.boot, self.seq = 0.0, 0
        self._rows: dict[str, dict[int, tuple[Any, float]]] = {s.name: {} for s in SECTIONS}

    def apply(self, delta: Delta, now: float) -> Report | None:
        """Put a checked delta on, received at monotonic time `now`.

        Returns:
            The report, of the policies only those that are new; None if the delta was made for
            an older or a newer copy than this.

        Raises:
            PeerError: a section has more rows than a report may have.
        """
        if delta.base is None:
            if delta.boot == self.boot and delta.seq < self.seq:
                return None
            self._rows = {s.name: {} for s in SECTIONS}
        elif delta.boot != self.boot or not delta.base <= self.seq <= delta.seq:
            return None
        self.boot, self.seq = delta.boot, delta.seq
        for section in SECTIONS:
            rows = self._rows[section.name]
            for number in delta.gone.get(section.name, ()):
                rows.pop(number, None)
            rows.update((number, (row, now)) for number, row in getattr(delta, section.name))
            if len(rows) > section.most:
                count, self.seq = len(rows), 0
                raise PeerError(f"{count} rows of {section.name} exceed limit of {section.most}")
        return self._report(delta, now)

    def _report(self, delta: Delta, now: float) -> Report:
        rows: dict[str, Any] = {
            s.name: [s.aged(row, now - at) for row, at in self._rows[s.name].values()]
            if s.is_aging
            else [row for row, _ in self._rows[s.name].values()]
            for s in SECTIONS
        }
        rows["policies"] = [row for _, row in delta.policies]
        rows["code_changes"] = [c for c in rows["code_changes"] if c.age <= MAX_AGE]
        return Report(
            delta.region,
            delta.boot,
            delta.seq,
            is_draining=delta.is_draining,
            resources=delta.resources,
            **rows,
        )
