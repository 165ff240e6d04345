"""Spans of real nodes at a collector that decodes them: what they say, and what failures cost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from onetrip.observe.metrics import Metrics
from onetrip.observe.otlp import OtlpSink
from onetrip.observe.otlp_metrics import MetricsPush
from onetrip.observe.spans import OtlpSettings, Span
from support.cluster import Cluster, Site
from support.collector import Collector
from support.fake_upstream import FakeUpstream
from support.ports import free_ports
from support.served_node import Load, ServedNode

BOUND = 30.0
"""Longest wait, s; exports go every second."""

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SERVER = 2  # SPAN_KIND_SERVER


async def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


class Traced(Cluster):
    """A cluster whose nodes export spans; every request runs in bom."""

    def __init__(self, folder: Path, url: str, ratio: float = 0.0) -> None:
        super().__init__(folder, {"mode": "smart", "hint": "bom", "control": 0})
        self.otlp = {"endpoint": url, "headers_env": "COLLECTOR_HEADERS", "ratio": ratio}

    def write_config(self, site: Site, **more: object) -> None:
        super().write_config(site, telemetry={"otlp": self.otlp}, **more)

    async def ask(self, path: str, flags: str | None = None, host: str = "shop.test") -> int:
        headers = {"Host": host}
        if flags is not None:
            headers["traceparent"] = f"00-{TRACE}-{CALLER}-{flags}"
        url = f"http://127.0.0.1:{self.sites['den'].proxy}{path}"
        async with self.session.get(url, headers=headers) as reply:
            return reply.status


@pytest.fixture(autouse=True)
def _headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_HEADERS", "Authorization=Bearer abc, x-tenant=shop")


async def test_sampled_request_is_one_span_a_node_below_its_caller(tmp_path: Path) -> None:
    async with Collector() as collector:
        cluster = Traced(tmp_path, collector.url)
        try:
            await cluster.start()
            assert await cluster.ask("/about?card=4111", "00") == 200
            assert await cluster.ask("/about") == 200
            assert await cluster.ask("/about?card=4111", "01") == 200
            await eventually(lambda: len(collector.spans) >= 2)
        finally:
            await cluster.stop()
        # What was not sampled has made no span, also not while the nodes stopped.
        assert len(collector.spans) == 2
        spans = {span.resource["service.instance.id"]: span for span in collector.spans}
        den, bom = spans["den"], spans["bom"]
        assert den.trace_id == bom.trace_id == TRACE
        assert (den.parent_id, bom.parent_id) == (CALLER, den.span_id)
        assert den.name == bom.name == "GET /about"
        assert den.kind == bom.kind == SERVER
        assert den.duration >= bom.duration > 0
        assert not den.is_error
        assert den.resource["service.name"] == "onetrip"
        told = den.attributes
        assert told["http.request.method"] == "GET"
        assert told["http.response.status_code"] == 200
        assert told["http.route"] == told["url.path"] == "/about"
        assert told["server.address"] == "shop.test"
        assert told["onetrip.route"] == "shop/production"
        assert (told["onetrip.region"], told["onetrip.edge"]) == ("bom", "den")
        assert told["onetrip.is_forwarded"] is False
        assert bom.attributes["onetrip.is_forwarded"] is True
        assert bom.attributes["onetrip.request_id"] == told["onetrip.request_id"]
        assert "4111" not in str(collector.spans)
        assert collector.headers["authorization"] == "Bearer abc"
        assert collector.headers["x-tenant"] == "shop"


async def test_traces_that_begin_here_are_sampled_by_the_ratio(tmp_path: Path) -> None:
    async with Collector() as collector:
        cluster = Traced(tmp_path, collector.url, ratio=1.0)
        try:
            await cluster.start()
            assert await cluster.ask("/about") == 200
            assert await cluster.ask("/nowhere", host="other.test") == 404
            await eventually(lambda: len(collector.spans) >= 3)
        finally:
            await cluster.stop()
        roots = [span for span in collector.spans if not span.parent_id]
        assert {span.name for span in roots} == {"GET /about", "GET"}
        assert len({span.trace_id for span in collector.spans}) == 2
        (lost,) = (span for span in roots if span.name == "GET")
        assert lost.attributes["http.response.status_code"] == 404
        assert not lost.is_error  # the client's mistake
        (below,) = (span for span in collector.spans if span.parent_id)
        assert below.parent_id in {span.span_id for span in roots}


async def test_collector_that_is_away_costs_spans_and_little_time() -> None:
    (port,) = free_ports(1)
    metrics = Metrics()
    settings = OtlpSettings(f"http://127.0.0.1:{port}")
    sink = OtlpSink(settings, metrics, "1", "den", timeout=0.2)
    for number in range(3):
        sink.put(Span("GET", TRACE, number + 1, CALLER, 1.0, 2.0, {}))
    await asyncio.wait_for(asyncio.to_thread(sink.close), BOUND)
    assert (outcome(metrics, "failed"), outcome(metrics, "exported")) == (3, 0)


async def test_queue_is_bounded_and_what_is_left_out_is_counted() -> None:
    async with Collector() as collector:
        collector.status = 400  # refused for good: nothing is sent again
        metrics = Metrics()
        sink = OtlpSink(OtlpSettings(collector.url), metrics, "1", "den", limit=3)
        for number in range(10):
            sink.put(Span("GET", TRACE, number + 1, "", 1.0, 2.0, {}))
        await asyncio.to_thread(sink.close)
        assert (outcome(metrics, "dropped"), outcome(metrics, "failed")) == (7, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
async def test_workers_export_what_they_serve(tmp_path: Path) -> None:
    async with Collector() as collector, FakeUpstream() as upstream:
        otlp = {"endpoint": collector.url, "ratio": 1.0}
        node = ServedNode(tmp_path, upstream.port)
        node.write_config(workers=2, telemetry={"otlp": otlp})
        async with node:
            async with Load(node.proxy, clients=4) as load:
                await load.more(20)
            assert load.failures == []
            await eventually(lambda: len(collector.spans) >= load.answered)
        assert {span.name for span in collector.spans} == {"GET /item"}


async def scrape(node: ServedNode) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what /metrics tells, without the instants at which series were made."""
    url = f"http://127.0.0.1:{node.admin}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        text = await reply.text()
    samples = [each for f in text_string_to_metric_families(text) for each in f.samples]
    return {
        (each.name, tuple(sorted((k, _bound(k, v)) for k, v in each.labels.items()))): each.value
        for each in samples
        if not each.name.endswith("_created")
    }


def _bound(name: str, value: str) -> str:
    return repr(float(value)) if name == "le" else value


@pytest.mark.parametrize("workers", [1, 2])
async def test_pushed_metrics_equal_those_that_are_scraped(tmp_path: Path, workers: int) -> None:
    def still(figures: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> object:
        names = (
            "onetrip_proxy_request",
            "onetrip_proxy_forwarded",
            "onetrip_build",
            "onetrip_acme",
        )
        return {key: value for key, value in figures.items() if key[0].startswith(names)}

    async with Collector() as collector, FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        otlp = {"endpoint": collector.url, "metrics": True, "metrics_interval": 1, "traces": False}
        node.write_config(workers=workers, telemetry={"otlp": otlp})
        async with node:
            async with Load(node.proxy, clients=2) as load:
                await load.more(20)
            done = (
                "onetrip_proxy_requests_total",
                (("route", "shop/production"), ("status_class", "2xx")),
            )

            await eventually(
                lambda: (
                    bool(collector.metrics)
                    and collector.metrics[-1].samples.get(done, 0) >= load.answered
                )
            )
            scraped, deadline = await scrape(node), time.monotonic() + BOUND
            while still(scraped) != still(collector.metrics[-1].samples):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
                scraped = await scrape(node)
        pushed = collector.metrics[-1]
        assert pushed.samples[done] == load.answered
        # Every series that is scraped is pushed, and no other.
        assert scraped.keys() <= pushed.samples.keys()
        assert pushed.resource["onetrip.region"] == pushed.resource["service.instance.id"] == "here"
        assert pushed.resource["service.name"] == "onetrip"
        assert pushed.kinds["onetrip_proxy_request_duration_seconds"] == "histogram"
        assert pushed.units["onetrip_proxy_request_duration_seconds"] == "s"
        assert pushed.kinds["onetrip_build_info"] == "gauge"
        assert len(set(pushed.starts)) == 1
        assert collector.spans == []  # not wanted here


async def test_collector_that_refuses_metrics_costs_a_point_in_time_and_no_count() -> None:
    async with Collector() as collector:
        collector.status = 400
        metrics = Metrics()
        push = MetricsPush(OtlpSettings(collector.url), metrics, "1", "den", lambda: 1000.0)
        metrics.moves.labels("better").inc(3)
        await push.push()
        collector.status = 200
        metrics.moves.labels("better").inc()
        await push.close()
        value = metrics.registry.get_sample_value
        assert value("onetrip_observe_metric_exports_total", {"outcome": "failed"}) == 1
        assert value("onetrip_observe_metric_exports_total", {"outcome": "exported"}) == 1
        (figures,) = collector.metrics
        assert figures.samples["onetrip_place_moves_total", (("reason", "better"),)] == 4


async def test_collector_that_is_away_does_not_keep_the_node() -> None:
    (port,) = free_ports(1)
    metrics = Metrics()
    settings = OtlpSettings(f"http://127.0.0.1:{port}")
    push = MetricsPush(settings, metrics, "1", "den", lambda: 1.0, timeout=0.2)
    await asyncio.wait_for(push.close(), BOUND)
    value = metrics.registry.get_sample_value
    assert value("onetrip_observe_metric_exports_total", {"outcome": "failed"}) == 1


def outcome(metrics: Metrics, name: str) -> float:
    value = metrics.registry.get_sample_value("onetrip_observe_spans_total", {"outcome": name})
    return value or 0.0
