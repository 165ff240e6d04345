"""The users' mix and their records."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from onetrip_lab import seed
from onetrip_lab.mix import ROUTES, Record, Records, draw, median_of


def record(
    at: float,
    route: str = "/about",
    *,
    latency: float = 0.1,
    status: int = 200,
    placement: str = "local-den",
) -> Record:
    return Record(at, "den", route, latency, status, placement)


def test_mix_follows_the_weights() -> None:
    rng = Random(5)
    seen = Counter(draw(rng)[0].name for _ in range(4000))
    assert seen["/orders"] == pytest.approx(1600, rel=0.1)
    assert seen["/cart"] == pytest.approx(400, rel=0.2)
    assert set(seen) == {r.name for r in ROUTES}


def test_paths_name_rows_that_exist() -> None:
    rng = Random(6)
    for _ in range(500):
        route, path = draw(rng)
        if route.name == "/orders":
            assert 1 <= int(path.rpartition("/")[2]) <= seed.ORDERS
        assert "{" not in path


def test_window_takes_requests_by_their_start() -> None:
    records = Records()
    for at in (1.0, 2.0, 3.0):
        records.add(record(at, latency=at))
    window = records.window(2.0, 3.0)
    assert window.count("den", "/about") == 1
    assert window.p50("den", "/about") == 2.0
    assert window.p50("bom", "/about") is None


def test_failures_are_counted_and_kept_out_of_latencies() -> None:
    records = Records()
    records.add(record(1.0, status=503))
    records.add(record(1.0, status=0))
    records.add(record(1.0))
    assert (records.total, records.failures) == (3, 2)
    assert records.last_failure == "den /about: no response"
    assert records.window(0).count("den", "/about") == 1


def test_usual_placement_is_the_most_frequent() -> None:
    records = Records()
    for placement in ("remote-bom", "local-den", "remote-bom"):
        records.add(record(1.0, placement=placement))
    window = records.window(0)
    assert window.usual_placement("den", "/about") == "remote-bom"
    assert window.ratio("den", "/about", lambda r: r.placement == "local-den") == pytest.approx(
        1 / 3
    )
    assert (window.usual_placement("den", "/item"), window.ratio("den", "/item", bool)) == ("", 0.0)


def test_median_of_nothing_is_none() -> None:
    assert median_of([]) is None
    assert median_of([3.0, 1.0, 2.0]) == 2.0


def test_seed_data_is_the_same_every_time() -> None:
    first = list(seed.statements())
    assert first == list(seed.statements())
    assert all(s.count("\n") == 0 and len(s) < 100_000 for s in first)
