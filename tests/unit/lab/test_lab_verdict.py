"""The demo's promises, on made-up records."""

from __future__ import annotations

import pytest

from onetrip_lab.mix import Record, Window
from onetrip_lab.verdict import Promise, all_kept, is_same, judge, medians


def window(
    *,
    orders: float = 2.5,
    about: float = 0.002,
    count: int = 10,
    where: str = "local-den",
    about_where: str = "local-den",
) -> Window:
    chatty = [Record(0.0, "den", "/orders", orders, 200, where) for _ in range(count)]
    static = [Record(0.0, "den", "/about", about, 200, about_where) for _ in range(count)]
    return Window(chatty + static)


BEFORE, AFTER = window(), window(orders=0.25, where="remote-bom")


def outcome(
    before: Window = BEFORE, after: Window = AFTER, back: Window = BEFORE, *, failures: int = 0
) -> list[Promise]:
    return judge("den", before, after, back, 1234, failures)


def kept(promises: list[Promise]) -> list[bool]:
    return [p.is_kept for p in promises]


def test_every_promise_is_kept_when_everything_went_well() -> None:
    promises = outcome()
    assert all_kept(promises)
    assert "2,500 -> 250 ms, 10.0x, remote-bom" in promises[0].detail
    assert promises[3].detail == "0 of 1,234 failed"


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (window(orders=0.6, where="remote-bom"), "4.2x"),
        (window(orders=0.25, where="local-den"), "local-den"),
        (window(orders=0.25, where=""), "no placement header"),
        (window(orders=0.25, where="remote-bom", count=2), "too few requests to tell: 10 and 2"),
    ],
)
def test_speedup_must_be_large_and_remote(after: Window, reason: str) -> None:
    promises = outcome(after=after)
    assert not promises[0].is_kept
    assert reason in promises[0].detail


@pytest.mark.parametrize(
    ("about", "where", "is_kept"),
    [
        (0.0065, "local-den", True),
        (0.0075, "local-den", False),
        (0.0001, "local-den", True),
        (0.002, "remote-bom", False),
    ],
)
def test_static_route_must_stay_fast_and_local(about: float, where: str, is_kept: bool) -> None:
    after = window(orders=0.25, where="remote-bom", about=about, about_where=where)
    assert kept(outcome(after=after)) == [True, is_kept, True, True]


@pytest.mark.parametrize(
    ("orders", "is_kept"), [(2.0, True), (3.1, True), (3.2, False), (1.8, False)]
)
def test_off_must_bring_the_old_latency_back(orders: float, is_kept: bool) -> None:
    assert kept(outcome(back=window(orders=orders))) == [True, True, is_kept, True]


def test_one_failed_request_breaks_the_last_promise() -> None:
    assert kept(outcome(failures=1)) == [True, True, True, False]


def test_no_requests_at_all_prove_nothing() -> None:
    nothing = Window([])
    assert not any(kept(judge("den", nothing, nothing, nothing, 0, 0)))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [(0.0018, 0.0022, True), (0.231, 0.25, True), (0.231, 0.26, False), (2.5, 0.25, False)],
)
def test_noise_and_small_drift_count_as_the_same(old: float, new: float, same: bool) -> None:
    assert is_same(old, new) is is_same(new, old) is same


def test_medians_are_ms_by_region_and_route() -> None:
    found = medians(["den", "bom"], BEFORE)
    assert found["den"]["/orders"] == 2500.0
    assert found["bom"] == {"/orders": None, "/cart": None, "/item": None, "/about": None}
