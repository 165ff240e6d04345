"""The metrics of several processes as those of one.

A worker sends the samples that changed; the node adds up. The library's own way for several
processes was not taken: it is switched on by an environment variable before the first import,
keeps files that outlive their process, slows every increment down and cannot ask a function for
its value. Counters and histograms of a process that ended stay in the sum, so that they never
decrease; what it measured as a gauge is gone with it. A worker sets a gauge only where the sum
over all of them means something.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Labels: TypeAlias = tuple[tuple[str, str], ...]
Key: TypeAlias = tuple[str, Labels]
Figure: TypeAlias = tuple[str, Labels, float]
"""One sample: name, labels in order, value."""

CREATED = "_created"
"""Suffix of the instants at which the library made a counter: no sum of them means anything."""


class Changes:
    """The samples of a registry that changed since they were last asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._last: dict[Key, float] = {}

    def take(self) -> list[Figure]:
        """Return the samples that changed, with their values."""
        found: list[Figure] = []
        last = self._last
        for family in self._registry.collect():
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                if last.get(key) != sample.value and not sample.name.endswith(CREATED):
                    last[key] = sample.value
                    found.append((*key, sample.value))
        return found


class MergedMetrics(Collector):
    """This process's metrics plus those of others.

    Args:
        own: the registry of this process; every metric is declared there.
    """

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._parts: dict[int, dict[Key, float]] = {}
        self._ended: dict[Key, float] = {}

    def registry(self) -> CollectorRegistry:
        """Return a registry that exports the sums."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def take(self, part: int, figures: Iterable[Figure]) -> None:
        """Replace samples of one process."""
        known = self._parts.setdefault(part, {})
        for name, labels, value in figures:
            known[name, labels] = value

    def end(self, part: int) -> None:
        """Keep what a process that ended has counted, and forget its gauges."""
        gauges = {family.name for family in self._own.collect() if family.type == "gauge"}
        for key, value in self._parts.pop(part, {}).items():
            if key[0] not in gauges:
                self._ended[key] = self._ended.get(key, 0.0) + value

    def describe(self) -> Iterator[Metric]:
        """See `Collector`: names are not checked, they are those of the other registry."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        others: dict[str, dict[Labels, float]] = {}
        for part in (self._ended, *list(self._parts.values())):
            for (name, labels), value in part.copy().items():  # another thread may ask
                rows = others.setdefault(name, {})
                rows[labels] = rows.get(labels, 0.0) + value
        for family in self._own.collect():
            yield _merged(family, others)


def _merged(family: Metric, others: dict[str, dict[Labels, float]]) -> Metric:
    total = Metric(family.name, family.documentation, family.type)
    for sample in family.samples:
        rows = others.get(sample.name, {})
        more = rows.pop(tuple(sample.labels.items()), 0.0)
        total.samples.append(sample._replace(value=sample.value + more))
    suffixes = ("_bucket", "_sum", "_count", "_total", "")
    for name in [family.name + suffix for suffix in suffixes]:
        for labels, value in others.pop(name, {}).items():
            total.samples.append(Sample(name, dict(labels), value))
    return total
