"""A bound on the series a node exports, whatever the number of its regions and projects.

Metrics whose labels grow with the configuration share what is left of the bound after all others,
fairly: one that needs less leaves the rest to those that need more. Of counters and histograms the
busiest label sets keep series of their own; what the others count is told as `_other`. A sum over
all series then is what was counted, and none of them ever decreases: a label set that loses its
place leaves its count as it was, and goes on from there when it gets one again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from onetrip.observe.merge import CREATED, Key

OTHER = "_other"
"""Label value of what is told together. No region, project or host has such a name."""

FOLDED = "onetrip_observe_folded_series"
"""The gauge that says how many series were told together or left out."""

SWAP_RATIO = 4.0
"""How much busier a label set must be than one with a series of its own to take its place: a new
series costs its reader more than a slightly better choice is worth."""

MEMORY = 0.9
"""What is left of a label set's activity after one export; busy is who was so in the last ten."""


_Row: TypeAlias = tuple[Key, Key, Sample]
"""A sample, where it is counted by itself and where as one of the others."""


class Rest(Enum):
    """What is told of the label sets that get no series of their own."""

    SUM = "sum"
    """Their sum, as `_other`; the busiest stay."""
    LEAST = "least"
    """Nothing; those with the least values stay."""
    GREATEST = "greatest"
    """Nothing; those with the greatest values stay."""
    FIRST = "first"
    """Nothing; the first by name stay."""


RULES: Mapping[str, tuple[str, Rest]] = {
    "onetrip_proxy_requests": ("route", Rest.SUM),
    "onetrip_proxy_version_requests": ("route", Rest.SUM),
    "onetrip_proxy_request_duration_seconds": ("region", Rest.SUM),
    "onetrip_proxy_forwarded": ("region", Rest.SUM),
    "onetrip_proxy_cache_size_bytes": ("project", Rest.SUM),
    "onetrip_proxy_cache_objects": ("project", Rest.SUM),
    "onetrip_proxy_certificate_expiry_seconds": ("certificate", Rest.LEAST),
    "onetrip_estimate_rtt_seconds": ("target_region", Rest.FIRST),
    "onetrip_estimate_backend_rtt_seconds": ("backend", Rest.FIRST),
    "onetrip_place_saving_seconds": ("route", Rest.FIRST),
    "onetrip_cluster_claims_rejected": ("region", Rest.SUM),
    "onetrip_cluster_peer_age_seconds": ("region", Rest.GREATEST),
    "onetrip_cluster_sync_failures": ("region", Rest.SUM),
    "onetrip_release_checks": ("region", Rest.SUM),
    "onetrip_relay_trips": ("backend", Rest.SUM),
    "onetrip_relay_setup_trips": ("backend", Rest.SUM),
    "onetrip_relay_connections": ("backend", Rest.SUM),
}
"""Families whose label grows with the configuration. Savings are means: `app/export` adds those up
that are left out. Every other label is of a small closed set."""


class SeriesLimit(Collector):
    """What a registry exports, within a bound.

    Args:
        inner: the registry whose samples are told.
        limit: most series. Labels of closed sets are never left out, so that it may be exceeded
            where there is hardly room for them alone (about 250).
    """

    def __init__(self, inner: CollectorRegistry, limit: int) -> None:
        self._inner = inner
        self._limit = limit
        self._folds: dict[str, _Fold] = {}
        self._lock = Lock()

    def registry(self) -> CollectorRegistry:
        """Return a registry that exports what is told."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def describe(self) -> Iterator[Metric]:
        """See `Collector`: names are not checked, they are those of the other registry."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        with self._lock:  # a collector's thread and a scrape may come at once
            families = [_bare(family) for family in self._inner.collect()]
            sizes = {f.name: len(f.samples) for f in families}
            bounded = {name: size for name, size in sizes.items() if name in RULES and size}
            room = self._limit - sum(sizes.values()) + sum(bounded.values()) - len(bounded)
            shares = fair_shares(bounded, room)
            folded: dict[str, int] = {}
            for family in families:
                if family.name in bounded:
                    folded[family.name] = self._bound(family, shares[family.name])
            for family in families:
                if family.name == FOLDED:
                    family.samples = [
                        Sample(FOLDED, {"metric": name}, float(count))
                        for name, count in folded.items()
                        if count
                    ]
        return iter(families)

    def _bound(self, family: Metric, share: int) -> int:
        """Cut a family down to `share` series and return how many were folded."""
        label, rest = RULES[family.name]
        count = len(family.samples)
        if rest is Rest.SUM:
            fold = self._folds.setdefault(family.name, _Fold(label, family.type != "gauge"))
            family.samples, folded = fold.apply(family.samples, share)
            return folded
        if count <= share:
            return 0
        if rest is Rest.FIRST:
            family.samples.sort(key=lambda sample: sample.labels[label])
        else:
            family.samples.sort(key=lambda s: s.value, reverse=rest is Rest.GREATEST)
        del family.samples[share:]
        return count - share


def fair_shares(wanted: Mapping[str, int], room: int) -> dict[str, int]:
    """Divide `room`: equal parts, and what one does not want goes to the others."""
    shares: dict[str, int] = {}
    left = max(0, room)
    by_size = sorted(wanted.items(), key=lambda item: (item[1], item[0]))
    for number, (name, want) in enumerate(by_size):
        shares[name] = min(want, left // (len(by_size) - number))
        left -= shares[name]
    return shares


@dataclass(slots=True)
class _Fold:
    """Which label sets of one family have series of their own, and what the others counted.

    Attributes:
        label: what is folded; the other labels stay.
        is_counted: its values only grow; otherwise they are gauges.
        named: values of the label that have series.
        other: what was counted as `_other`, by sample.
        seen: of samples without a series: the value up to which `other` has it.
        behind: how much of a sample went to `other`, ever.
        busy: per value of the label, its count at the last export and its recent activity.
    """

    label: str
    is_counted: bool
    named: set[str] = field(default_factory=set)
    other: dict[Key, float] = field(default_factory=dict)
    seen: dict[Key, float] = field(default_factory=dict)
    behind: dict[Key, float] = field(default_factory=dict)
    busy: dict[str, tuple[float, float]] = field(default_factory=dict)

    def apply(self, samples: list[Sample], share: int) -> tuple[list[Sample], int]:
        """Return what is told of `samples`, at most `share`, and how many have no series."""
        rows = [(key := _key(sample), self._place(key), sample) for sample in samples]
        groups: dict[str, list[_Row]] = {}
        for row in rows:
            groups.setdefault(row[2].labels[self.label], []).append(row)
        self._forget(groups)
        if len(samples) + len(self.other) <= share and not self.seen:
            self.named = set(groups)
            return [self._own(row) for row in rows] + self._told(), 0
        self._weigh(groups)
        hidden = self._choose(groups, share)
        if not self.is_counted:
            self.other = {}
        for name in hidden:
            for row in groups[name]:
                self._add(row)
        kept = [self._own(row) for row in rows if row[2].labels[self.label] in self.named]
        return kept + self._told(), sum(len(groups[name]) for name in hidden)

    def _choose(self, groups: dict[str, list[_Row]], share: int) -> list[str]:
        """Decide who is named and return the others."""
        rest = {place for rows in groups.values() for _, place, _ in rows}
        room = share - len(rest | self.other.keys())
        order = sorted(groups, key=lambda name: (-self.busy[name][1], name))
        kept = _filled([name for name in order if name in self.named], groups, room)
        hidden = [name for name in order if name not in kept]
        stay = [name for name in order if name in kept]
        if hidden and stay:
            best, least = self.busy[hidden[0]][1], self.busy[stay[-1]][1]
            if best > SWAP_RATIO * (least + 1):
                hidden.append(stay.pop())
        named = _filled([*stay, *hidden], groups, room)
        self._change(groups, named)
        return [name for name in order if name not in named]

    def _change(self, groups: dict[str, list[_Row]], named: set[str]) -> None:
        before, self.named = self.named, named
        if not self.is_counted:
            return
        for name in before - named:  # what it counted so far was told as its own
            self.seen.update((key, sample.value) for key, _, sample in groups[name])
        for name in named - before:
            for row in groups[name]:
                if row[0] in self.seen:
                    self._add(row)
                    del self.seen[row[0]]

    def _add(self, row: _Row) -> None:
        """Count as `_other` what a sample without a series has gained."""
        key, place, sample = row
        gain = sample.value
        if self.is_counted:
            gain = max(0.0, gain - self.seen.get(key, 0.0))
            self.behind[key] = self.behind.get(key, 0.0) + gain
            self.seen[key] = sample.value
        self.other[place] = self.other.get(place, 0.0) + gain

    def _weigh(self, groups: dict[str, list[_Row]]) -> None:
        busy: dict[str, tuple[float, float]] = {}
        for name, rows in groups.items():
            total = sum(s.value for (of, _), _, s in rows if not of.endswith(("_bucket", "_sum")))
            last, activity = self.busy.get(name, (0.0, 0.0))
            gain = total - last if self.is_counted else total
            busy[name] = (total, MEMORY * activity + max(0.0, gain))
        self.busy = busy

    def _forget(self, groups: dict[str, list[_Row]]) -> None:
        """Forget label sets that left the registry; if they come back, they begin anew."""
        if not self.seen and not self.behind:
            return
        keys = {key for rows in groups.values() for key, _, _ in rows}
        self.seen = {key: value for key, value in self.seen.items() if key in keys}
        self.behind = {key: value for key, value in self.behind.items() if key in keys}
        self.named &= groups.keys()

    def _own(self, row: _Row) -> Sample:
        behind = self.behind.get(row[0], 0.0) if self.behind else 0.0
        return row[2]._replace(value=row[2].value - behind) if behind else row[2]

    def _place(self, key: Key) -> Key:
        label = self.label
        return (key[0], tuple([(n, OTHER if n == label else value) for n, value in key[1]]))

    def _told(self) -> list[Sample]:
        return [Sample(name, dict(labels), value) for (name, labels), value in self.other.items()]


def _filled(order: list[str], groups: dict[str, list[_Row]], room: int) -> set[str]:
    """Return the first ones of `order` that fit into `room`."""
    found: set[str] = set()
    for name in order:
        if len(groups[name]) <= room:
            room -= len(groups[name])
            found.add(name)
    return found


def _key(sample: Sample) -> Key:
    return (sample.name, tuple(sample.labels.items()))


def _bare(family: Metric) -> Metric:
    """Return a family that may be changed, without the instants its counters were made at."""
    bare = Metric(family.name, family.documentation, family.type)
    bare.samples = [s for s in family.samples if not s.name.endswith(CREATED)]
    return bare
