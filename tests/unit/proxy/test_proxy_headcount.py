"""A full house is counted each time and told now and then."""

from __future__ import annotations

import io

from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.headcount import QUIET, Headcount
from support.clock import VirtualClock


def test_full_house_is_counted_and_told_once_in_a_while():
    clock, metrics, text = VirtualClock(), Metrics(), io.StringIO()
    headcount = Headcount(2, clock, metrics, Log(text, "info", lambda: 0.0))
    assert [headcount.admits(n) for n in (0, 1, 2, 2, 3)] == [True, True, False, False, False]
    labels = {"listener": "clients", "reason": "overload"}
    name = "onetrip_proxy_refused_connections_total"
    assert metrics.registry.get_sample_value(name, labels) == 3
    assert text.getvalue().count("proxy.connections_full") == 1
    clock.step(QUIET)
    assert not headcount.admits(2)
    assert text.getvalue().count("proxy.connections_full") == 2
    assert b" 503 " in headcount.reply()
    assert b"more than 2" not in headcount.reply().partition(b"\r\n\r\n")[0]
