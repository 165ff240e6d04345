"""The bound on series: kept at any size, and never at the cost of a counter."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest

from onetrip.model.measure import Arm
from onetrip.observe.merge import Labels
from onetrip.observe.metrics import Metrics, declared
from onetrip.observe.series import FOLDED, OTHER, RULES, SeriesLimit, fair_shares

LIMIT = 2000
REQUESTS = "onetrip_proxy_requests_total"


def series(registry: CollectorRegistry) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def bounded(metrics: Metrics, limit: int = LIMIT) -> CollectorRegistry:
    return SeriesLimit(metrics.registry, limit).registry()


def crowd(metrics: Metrics, regions: int = 330, projects: int = 10_000) -> None:
    """Let every region and project have told everything there is to tell of it."""
    for n in range(regions):
        region = f"r{n}"
        metrics.rtt.labels("here", region).set(n / 1000)
        metrics.peer_age.labels(region).set(n)
        metrics.sync_failures.labels(region).inc(n)
        metrics.deployments.checks.labels(region, "ready").inc()
        for arm in Arm:
            metrics.forwarded.labels(region, arm.value).inc(n)
            metrics.request_duration.labels(region, arm.value).observe(n / 1000)
    for n in range(projects):
        metrics.backend_rtt.labels("here", f"db{n}").set(0.1)
        metrics.relay_trips.labels(f"db{n}").inc(3)
        metrics.saving.labels(f"p{n}/production").set(0.1)
        metrics.edge.cache_size.labels(f"p{n}").set(n)
        metrics.certificate_expiry.labels(f"{n}.pem").set(n)
        for status in ("2xx", "5xx"):
            metrics.requests.labels(f"p{n}/production", status).inc(1 + n)


def test_a_node_of_330_regions_and_10000_projects_keeps_within_the_bound() -> None:
    metrics = Metrics()
    crowd(metrics)
    text = generate_latest(bounded(metrics)).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) <= LIMIT
    assert len(lines) > 0.95 * LIMIT  # room is there to be used
    told = series(bounded(metrics))
    total = sum(value for (name, _), value in told.items() if name == REQUESTS)
    assert total == 2 * sum(range(1, 10_001))
    count = sum(v for (name, _), v in told.items() if name.endswith("duration_seconds_count"))
    assert count == 330 * len(Arm)
    assert (REQUESTS, (("route", "p9999/production"), ("status_class", "2xx"))) in told
    assert (REQUESTS, (("route", OTHER), ("status_class", "5xx"))) in told
    expiry = "onetrip_proxy_certificate_expiry_seconds"
    assert (expiry, (("certificate", "0.pem"),)) in told
    assert ("onetrip_cluster_peer_age_seconds", (("region", "r329"),)) in told
    folded = told[FOLDED, (("metric", "onetrip_proxy_requests"),)]
    assert folded > 19_000


def test_nothing_is_folded_while_there_is_room() -> None:
    metrics = Metrics()
    crowd(metrics, regions=5, projects=30)
    told, known = series(bounded(metrics)), series(metrics.registry)
    assert told == {key: v for key, v in known.items() if not key[0].endswith("_created")}


def test_every_label_that_can_grow_is_bounded() -> None:
    """A new metric by route, region, project or the like has to be in the rules."""
    growing = {"route", "region", "target_region", "backend", "project", "certificate"}
    labels = {metric._name: metric._labelnames for metric in declared(Metrics())}
    assert {name for name, own in labels.items() if growing & set(own)} == set(RULES)
    assert all(label in labels[name] for name, (label, _) in RULES.items())


@pytest.mark.parametrize("seed", range(5))
def test_no_counter_ever_goes_down_and_none_is_counted_twice(seed: int) -> None:
    """Popularity wanders, series come and go, the room for them as well."""
    rng, registry = Random(seed), CollectorRegistry()
    requests = Counter("onetrip_proxy_requests", "x", ["route", "status_class"], registry=registry)
    ages = Gauge("onetrip_cluster_peer_age_seconds", "x", ["region"], registry=registry)
    exported = SeriesLimit(registry, 40).registry()
    last: dict[tuple[str, Labels], float] = {}
    ever: dict[tuple[str, Labels], float] = {}
    named: set[str] = set()
    counted = 0
    for step in range(300):
        popular = (step // 60) * 25
        for _ in range(200):
            route = popular + int(rng.expovariate(1 / 12))
            requests.labels(f"p{route}", rng.choice(("2xx", "5xx"))).inc()
            counted += 1
        for region in range(rng.choice((0, 10, 40))):
            ages.labels(f"r{region}").set(step)
        told = series(exported)
        assert len(told) <= 40
        now = {key: value for key, value in told.items() if key[0] == REQUESTS}
        for key, value in now.items():
            assert value >= ever.get(key, 0.0), key
        ever |= now
        named |= {dict(labels)["route"] for _, labels in now}
        # What those have that lost their place stays told for: no more, and nothing twice.
        assert sum(ever.values()) <= counted
        last = now
    assert sum(ever.values()) >= 0.99 * counted
    assert len(named) > 30  # places did change
    assert any(dict(labels)["route"] == OTHER for _, labels in last)


def test_a_route_keeps_its_series_unless_another_is_much_busier() -> None:
    registry = CollectorRegistry()
    requests = Counter("onetrip_proxy_requests", "x", ["route", "status_class"], registry=registry)
    exported = SeriesLimit(registry, 5).registry()

    def routes() -> set[str]:
        return {dict(labels)["route"] for _, labels in series(exported)}

    for name in "abcdefgh":
        requests.labels(name, "2xx").inc(20)
    first = routes()
    assert len(first) == 4  # one series is `_other`, one is kept for the gauge of folded series
    hidden = sorted(set("abcdefgh") - first)[0]
    requests.labels(hidden, "2xx").inc(30)
    assert routes() == first
    requests.labels(hidden, "2xx").inc(300)
    assert hidden in routes()
    value = series(exported)[REQUESTS, (("route", hidden), ("status_class", "2xx"))]
    assert value == 0  # all of it was told as `_other` before it got its place
    requests.labels(hidden, "2xx").inc(7)
    assert series(exported)[REQUESTS, (("route", hidden), ("status_class", "2xx"))] == 7


def test_a_histogram_is_folded_whole() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics.request_duration.labels(f"r{n}", "default").observe(0.004)
    told = list(bounded(metrics, 500).collect())
    duration = next(f for f in told if f.name == "onetrip_proxy_request_duration_seconds")
    other = {
        sample.labels.get("le"): sample.value
        for sample in duration.samples
        if sample.labels["region"] == OTHER and not sample.name.endswith("_sum")
    }
    own = {s.labels["region"] for s in duration.samples} - {OTHER}
    assert other["0.005"] == other["+Inf"] == other[None] == 100 - len(own)
    assert other["0.0025"] == 0
    assert all(len(found) == 16 for found in _by_region(duration))


def _by_region(family: Metric) -> Iterator[list[object]]:
    regions = {sample.labels["region"] for sample in family.samples}
    for region in regions:
        yield [s for s in family.samples if s.labels["region"] == region]


def test_room_is_shared_fairly() -> None:
    assert fair_shares({"a": 10, "b": 500, "c": 900}, 1000) == {"a": 10, "b": 495, "c": 495}
    assert fair_shares({"a": 10, "b": 20}, 1000) == {"a": 10, "b": 20}
    assert fair_shares({"a": 10, "b": 20}, -5) == {"a": 0, "b": 0}
