"""The runner on a virtual clock, with probes that answer as told."""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import BackendKind
from onetrip.model.measure import Sample, SampleKind, Target, TargetKind
from onetrip.model.topology import Endpoint, RegionId
from onetrip.net.dial import TcpDialer
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.probe.base import Network, ProbeSpec
from onetrip.probe.plan import ProbeSettings
from onetrip.probe.runner import ProbeRunner
from support.clock import VirtualClock

Outcome = float | ProbeError | Exception


def spec(name: str, port: int = 1) -> ProbeSpec:
    return ProbeSpec(Target(TargetKind.BACKEND, name), BackendKind.TCP, Endpoint("192.0.2.1", port))


class ScriptedProbe:
    """Takes `rtt` s of virtual time and answers, or fails."""

    def __init__(
        self, spec: ProbeSpec, clock: VirtualClock, outcome: Callable[[], Outcome]
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.outcome = outcome
        self.timeouts: list[float] = []
        self.is_closed = False

    async def run(self, timeout: float) -> Sample:
        self.timeouts.append(timeout)
        outcome = self.outcome()
        if isinstance(outcome, Exception):
            raise outcome
        await self.clock.sleep(outcome)
        return Sample(self.spec.target, outcome, SampleKind.CONNECT, self.clock.now())

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A runner, its clock, and all that came out of it."""

    def __init__(self, interval: float = 1.0) -> None:
        self.clock = VirtualClock()
        self.samples: list[Sample] = []
        self.failures: list[tuple[Target, Kind]] = []
        self.probes: list[ScriptedProbe] = []
        self.outcomes: dict[str, Outcome] = {}
        self.metrics = Metrics()
        self.text = io.StringIO()
        self.runner = ProbeRunner(
            RegionId("den"),
            TcpDialer(),
            self.clock,
            Random(4),
            self.metrics,
            Log(self.text, "debug", self.clock.wall),
            ProbeSettings(interval=interval),
            self.samples.append,
            lambda target, error: self.failures.append((target, error.kind)),
            factory=self.make,
        )

    def make(self, spec: ProbeSpec, network: Network) -> ScriptedProbe:
        name = spec.target.name
        probe = ScriptedProbe(spec, self.clock, lambda: self.outcomes.get(name, 0.1))
        self.probes.append(probe)
        return probe

    def count(self, name: str) -> int:
        return sum(sample.target.name == name for sample in self.samples)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.text.getvalue().splitlines()]


async def test_every_target_is_measured_in_its_interval() -> None:
    bench = Bench(interval=1.0)
    bench.runner.set_specs([spec("a"), spec("b")])
    bench.runner.start()
    await bench.clock.advance(20.0)
    await bench.runner.stop()
    assert 16 <= bench.count("a") <= 24
    assert 16 <= bench.count("b") <= 24
    assert bench.failures == []
    assert {sample.rtt for sample in bench.samples} == {0.1}


async def test_nothing_runs_after_stop() -> None:
    bench = Bench()
    bench.runner.set_specs([spec("a")])
    bench.runner.start()
    await bench.clock.advance(3.0)
    await bench.runner.stop()
    before = len(bench.samples)
    await bench.clock.advance(10.0)
    assert len(bench.samples) == before
    assert all(probe.is_closed for probe in bench.probes)
    assert len(asyncio.all_tasks()) == 1


async def test_specs_change_live() -> None:
    bench = Bench()
    bench.runner.set_specs([spec("a"), spec("b")])
    bench.runner.start()
    await bench.clock.advance(5.0)
    bench.runner.set_specs([spec("b"), spec("c")])
    assert bench.runner.targets == {spec("b").target, spec("c").target}
    counts = bench.count("a"), bench.count("b")
    await bench.clock.advance(5.0)
    await bench.runner.stop()
    assert bench.count("a") == counts[0]
    assert bench.count("b") > counts[1]
    assert bench.count("c") > 0
    assert [p.spec.target.name for p in bench.probes] == ["a", "b", "c"]
    assert bench.probes[0].is_closed


async def test_changed_endpoint_gets_a_new_probe_and_is_measured_at_once() -> None:
    bench = Bench(interval=100.0)
    bench.runner.set_specs([spec("a", port=1)])
    bench.runner.start()
    await bench.clock.advance(2.0)
    assert bench.count("a") == 1
    bench.runner.set_specs([spec("a", port=2)])
    await bench.clock.advance(2.0)
    await bench.runner.stop()
    assert bench.count("a") == 2
    assert [probe.spec.endpoint.port for probe in bench.probes] == [1, 2]
    assert bench.probes[0].is_closed


@pytest.mark.parametrize("after", [[], [replace(spec("a"), path="/new")]])
async def test_answer_to_a_probe_that_was_replaced_is_dropped(after: list[ProbeSpec]) -> None:
    bench = Bench(interval=100.0)
    bench.outcomes["a"] = 5.0
    bench.runner.set_specs([spec("a")])
    bench.runner.start()
    await bench.clock.advance(2.0)
    bench.runner.set_specs(after)
    bench.outcomes["a"] = 50.0
    await bench.clock.advance(10.0)
    assert bench.samples == []
    await bench.runner.stop()


async def test_failures_are_reported_counted_and_logged_twice() -> None:
    bench = Bench()
    bench.outcomes["a"] = ProbeError("probe of backend:a: no", kind=Kind.CONNECT)
    bench.runner.set_specs([spec("a")])
    bench.runner.start()
    await bench.clock.advance(60.0)
    bench.outcomes["a"] = 0.1
    await bench.clock.advance(30.0)
    await bench.runner.stop()
    assert len(bench.failures) > 4
    assert set(bench.failures) == {(spec("a").target, Kind.CONNECT)}
    failed = bench.metrics.probe_failures.labels(kind="backend", failure="connect")
    assert failed._value.get() == len(bench.failures)
    total = bench.metrics.probes.labels(kind="backend")
    assert total._value.get() == len(bench.failures) + len(bench.samples)
    assert bench.events() == ["probe.failed", "probe.target_lost", "probe.recovered"]


async def test_down_target_is_seen_failing_within_two_intervals() -> None:
    bench = Bench(interval=2.0)
    bench.outcomes["a"] = ProbeError("down", kind=Kind.CONNECT)
    bench.runner.set_specs([spec("a")])
    bench.runner.start()
    await bench.clock.advance(1.0 + 2.0)
    await bench.runner.stop()
    assert len(bench.failures) >= 3


async def test_slow_target_gets_a_longer_timeout() -> None:
    bench = Bench()
    bench.outcomes["a"] = 1.5
    bench.runner.set_specs([spec("a")])
    bench.runner.start()
    await bench.clock.advance(10.0)
    await bench.runner.stop()
    assert bench.probes[0].timeouts[0] == 2.0
    assert bench.probes[0].timeouts[-1] == 6.0


async def test_crashing_probe_is_a_failure_and_is_tried_again() -> None:
    bench = Bench()
    bench.outcomes["a"] = RuntimeError("bug")
    bench.runner.set_specs([spec("a"), spec("b")])
    bench.runner.start()
    await bench.clock.advance(5.0)
    bench.outcomes["a"] = 0.1
    await bench.clock.advance(20.0)
    await bench.runner.stop()
    assert (spec("a").target, Kind.INVALID) in bench.failures
    assert bench.count("a") > 0
    assert bench.count("b") > 15
    assert "probe.crashed" in bench.events()


async def test_hanging_probe_holds_up_nobody_else() -> None:
    bench = Bench()
    bench.outcomes["a"] = 1e6
    bench.runner.set_specs([spec("a"), spec("b")])
    bench.runner.start()
    await bench.clock.advance(10.0)
    await bench.runner.stop()
    assert bench.count("b") >= 8


async def test_a_node_out_of_descriptors_blames_no_target() -> None:
    bench = Bench()
    bench.outcomes["a"] = ProbeError("out of descriptors", kind=Kind.EXHAUSTED)
    bench.runner.set_specs([spec("a")])
    bench.runner.start()
    await bench.clock.advance(20.0)
    bench.outcomes["a"] = 0.1
    await bench.clock.advance(3.0)
    await bench.runner.stop()
    assert bench.failures == []
    failed = bench.metrics.probe_failures.labels(kind="backend", failure="exhausted")
    assert failed._value.get() >= 10
    assert bench.events() == []
    assert bench.count("a") > 0
