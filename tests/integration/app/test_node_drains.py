"""Events, access lines and errors that leave a node: what arrives, and what must not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.observe.otlp_logs import OtlpLogs
from onetrip.observe.sentry import MAX_EVENTS, SentryTap
from onetrip.observe.spans import OtlpSettings
from onetrip.observe.taps import SentrySettings
from support.collector import Collector
from support.fake_sentry import KEY, FakeSentry
from support.fake_upstream import FakeUpstream
from support.ports import free_ports
from support.served_node import Load, ServedNode

BOUND = 30.0
"""Longest wait, s; exports go every second."""


async def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
async def test_events_and_access_lines_reach_a_collector(tmp_path: Path, workers: int) -> None:
    async with Collector() as collector, FakeUpstream() as upstream:
        otlp = {"endpoint": collector.url, "logs": "all", "ratio": 1.0}
        node = ServedNode(tmp_path, upstream.port)
        node.write_config(workers=workers, telemetry={"otlp": otlp})  # log.access is off
        async with node:
            async with Load(node.proxy, clients=2) as load:
                await load.more(10)

            def lines() -> list[Any]:
                return [x for x in collector.lines if x.event == "proxy.exchange_finished"]

            await eventually(lambda: len(lines()) >= load.answered > 0)
            await eventually(lambda: len(collector.spans) >= load.answered)
        started = next(line for line in collector.lines if line.event == "app.started")
        assert (started.severity, started.number, started.body) == ("info", 9, "app.started")
        assert started.resource["onetrip.region"] == "here"
        line = lines()[0]
        assert line.attributes["path"] == "/item"
        assert line.attributes["status"] == 200
        assert line.attributes["upstream"] == f"127.0.0.1:{upstream.port}"
        assert line.attributes["sent_after"] <= line.attributes["ttfb"] < BOUND
        # A backend finds the line beside its span.
        assert {each.trace_id for each in lines()} == {span.trace_id for span in collector.spans}


async def test_a_collector_that_refuses_costs_records_that_are_counted() -> None:
    async with Collector() as collector:
        collector.status = 400
        metrics = Metrics()
        settings = OtlpSettings(collector.url)
        tap = OtlpLogs(settings, metrics, "1", "den", takes_access=False, limit=3)
        log = Log(None, "info", lambda: 1.0)
        log.taps.append(tap)
        for _ in range(5):
            log.info("app.started")
        await asyncio.to_thread(tap.close)
        assert (records(metrics, "dropped"), records(metrics, "failed")) == (2, 3)


async def test_a_failed_task_is_an_event_with_its_stack_and_no_variables() -> None:
    async with FakeSentry() as sentry:
        metrics = Metrics()
        settings = SentrySettings(sentry.dsn, "production")
        log = Log(None, "info", lambda: 1_700_000_000.0).bind(region="den")
        tap = SentryTap(settings, metrics, "1.2", "den", lambda: 0.0)
        log.taps.append(tap)
        log.error("app.task_failed", cause=failure(), task="score", error="ValueError",
                  reason="client 203.0.113.7 said token=hunter2")  # fmt: skip
        log.error("control.failed", path="/v1/x", error="KeyError", request_id="abc")
        log.warning("probe.denied", reason="not an error")
        await asyncio.to_thread(tap.close)
        failed, other = sentry.events
        assert failed["level"] == "error"
        assert failed["logentry"]["message"] == "app.task_failed"
        assert failed["tags"] == {"event": "app.task_failed", "region": "den"}
        assert failed["extra"]["task"] == "score"
        assert failed["release"] == "onetrip@1.2"
        assert (failed["environment"], failed["server_name"]) == ("production", "den")
        (exception,) = failed["exception"]["values"]
        assert exception["type"] == "ValueError"
        assert exception["stacktrace"]["frames"][-1]["function"] == "failure"
        text = b"".join(sentry.raw).decode()
        for private in ("203.0.113", "hunter2", "4111", "vars", "abs_path", "/v1/x", '"abc"'):
            assert private not in text, private
        assert other["logentry"]["message"] == "control.failed"
        assert f"sentry_key={KEY}" in sentry.auth
        assert KEY not in repr(settings)
        assert sentry_count(metrics, "queued") == 2
        assert sentry_count(metrics, "lost") == 0


def failure() -> ValueError:
    card = str(4000 + 111)
    try:
        raise ValueError(f"https://shop.test/pay?card={card} failed")
    except ValueError as error:
        return error


async def test_a_storm_of_errors_is_bounded_and_an_endpoint_that_is_away_is_counted() -> None:
    (port,) = free_ports(1)
    metrics, now = Metrics(), [0.0]
    settings = SentrySettings(f"http://{KEY}@127.0.0.1:{port}/1")
    tap = SentryTap(settings, metrics, "1", "den", lambda: now[0])
    record = {"ts": 1.0, "level": "error", "event": "app.task_failed", "task": "score"}
    for _ in range(MAX_EVENTS + 5):
        tap.take(record, None)
    assert (sentry_count(metrics, "queued"), sentry_count(metrics, "dropped")) == (MAX_EVENTS, 5)
    now[0] = 61.0
    tap.take(record, None)
    assert sentry_count(metrics, "queued") == MAX_EVENTS + 1
    await asyncio.wait_for(asyncio.to_thread(tap.close), BOUND)
    assert sentry_count(metrics, "lost") >= 1


async def test_a_node_reports_what_a_person_must_look_at(tmp_path: Path) -> None:
    async with FakeSentry() as sentry, FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        entry = {"dsn_env": "SENTRY_DSN", "environment": "test"}
        node.write_config(telemetry={"sentry": entry})
        node.start({"SENTRY_DSN": sentry.dsn})
        try:
            await node.logged("app.started")
            node.config.write_text("nonsense: true\n")
            os.kill(node.pid, signal.SIGHUP)
            await eventually(lambda: bool(sentry.events))
        finally:
            await node.__aexit__()
        (event,) = sentry.events
        assert event["logentry"]["message"] == "app.reload_refused"
        assert "unknown key" in event["extra"]["reason"]
        assert event["server_name"] == "here"
        assert KEY not in node.log.read_text()


@pytest.mark.parametrize("library", ["sentry_sdk", "opentelemetry"])
def test_what_is_off_is_not_imported(library: str) -> None:
    code = "import sys, onetrip.app.process, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not [name for name in json.loads(done.stdout) if name.split(".")[0] == library]


def records(metrics: Metrics, outcome: str) -> float:
    name = "onetrip_observe_log_records_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def sentry_count(metrics: Metrics, outcome: str) -> float:
    name = "onetrip_observe_sentry_events_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0
