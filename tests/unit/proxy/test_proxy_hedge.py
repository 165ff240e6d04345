"""When a second attempt is worth it."""

from __future__ import annotations

from dataclasses import replace

from onetrip.model.catalog import Hedge
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import Endpoint
from onetrip.observe.metrics import Metrics
from onetrip.proxy.hedge import LEAST_SAMPLES, HedgeBook, Plan
from onetrip.proxy.retry import RetryBudget
from support.clock import VirtualClock
from support.proxy_rig import DEN, SHOP, make_catalog

KEY, OTHER = (RouteKey(SHOP, path, MethodClass.READ) for path in ("/a", "/b"))


def test_fixed_delay_needs_no_samples():
    assert Plan(Hedge(after=0.05), VirtualClock()).delay(KEY) == 0.05


def test_quantile_needs_samples_of_that_route():
    plan = Plan(Hedge(quantile=0.95), VirtualClock())
    for number in range(LEAST_SAMPLES - 1):
        plan.note(KEY, number / 1000)
    assert plan.delay(KEY) is None
    plan.note(KEY, 0.001)
    assert plan.delay(KEY) == 0.029
    assert plan.delay(OTHER) is None


def test_quantile_follows_the_latest_latencies():
    plan = Plan(Hedge(quantile=0.5), VirtualClock())
    for _ in range(300):
        plan.note(KEY, 0.010)
    assert plan.delay(KEY) == 0.010
    for _ in range(256):
        plan.note(KEY, 0.100)
    assert plan.delay(KEY) == 0.100


def test_hedges_are_a_share_of_the_requests():
    plan = Plan(Hedge(after=0.05, max_ratio=0.1), VirtualClock())
    for _ in range(100):
        plan.budget.note_request()
    assert sum(plan.budget.take() for _ in range(50)) == 11


def test_book_keeps_what_it_learned_until_the_project_asks_for_something_else():
    book = HedgeBook(VirtualClock(), Metrics())
    catalog = make_catalog({DEN: [Endpoint("10.0.0.1", 80)]}, hedge=Hedge())
    book.update(catalog)
    first = book.find("shop")
    book.update(replace(catalog, version=2))
    assert book.find("shop") is first
    book.update(make_catalog({DEN: [Endpoint("10.0.0.1", 80)]}, hedge=Hedge(quantile=0.9)))
    assert book.find("shop") is not first
    book.update(make_catalog({DEN: [Endpoint("10.0.0.1", 80)]}))
    assert book.find("shop") is None


def test_an_attempt_not_made_goes_back_to_the_budget():
    budget = RetryBudget(0.0, 1, VirtualClock())
    assert budget.take()
    assert not budget.take()
    budget.give_back()
    assert budget.take()
