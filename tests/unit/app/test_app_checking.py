"""The check of a deployment: goes on until all is well, or the time is up."""

from __future__ import annotations

from collections.abc import Sequence

from onetrip.app.checking import Checker
from onetrip.errors import PeerError, ProbeError
from onetrip.model.catalog import BackendKind
from onetrip.model.measure import Sample, SampleKind, Target, TargetKind
from onetrip.model.topology import Endpoint
from onetrip.probe.base import Network, Probe, ProbeSpec
from support.clock import VirtualClock


class JumpingClock(VirtualClock):
    """Time that jumps over every sleep."""

    async def sleep(self, duration: float) -> None:
        self.step(duration)


class World:
    """Instances that answer from their n-th check on, and files that arrive with some delay."""

    def __init__(self, answers_at: Sequence[int], assets_at: int = 0) -> None:
        self.clock = JumpingClock(0.0)
        self.tries = [0] * len(answers_at)
        self._answers_at = answers_at
        self.asked = 0
        self._assets_at = assets_at
        network = Network(None, None, None, self.clock)  # type: ignore[arg-type]
        self.checker = Checker(network, self._probe, self._bring)
        self.specs = [
            ProbeSpec(
                Target(TargetKind.INSTANCE, f"h:{n}"), BackendKind.HTTP, Endpoint(f"h{n}", 80)
            )
            for n in range(1, len(answers_at) + 1)
        ]

    def _probe(self, spec: ProbeSpec, network: Network) -> Probe:
        number = int(spec.endpoint.host[1:]) - 1
        world = self

        class Fake:
            async def run(self, timeout: float) -> Sample:
                world.tries[number] += 1
                if world.tries[number] < world._answers_at[number]:
                    raise ProbeError("answers 503")
                return Sample(spec.target, 0.001, SampleKind.HTTP, world.clock.now())

            def close(self) -> None:
                pass

        return Fake()

    async def _bring(self, digest: str) -> None:
        self.asked += 1
        if self.asked < self._assets_at:
            raise PeerError("no other node has them")


async def test_ready_at_once_where_all_answer():
    world = World([1, 1])
    assert (await world.checker.check(world.specs, "", 10)).is_ready
    assert (world.tries, world.clock.now()) == ([1, 1], 0.0)


async def test_only_what_has_not_answered_yet_is_asked_again():
    world = World([1, 4], assets_at=3)
    assert (await world.checker.check(world.specs, "d", 10)).is_ready
    assert (world.tries, world.asked) == ([1, 4], 3)


async def test_failure_tells_what_is_missing_when_the_time_is_up():
    world = World([1, 1000])
    record = await world.checker.check(world.specs, "", 3)
    assert not record.is_ready
    assert record.detail == "h2:80: answers 503"
    assert world.clock.now() <= 3


async def test_missing_files_are_a_failure():
    world = World([], assets_at=1000)
    record = await world.checker.check([], "d", 3)
    assert (record.is_ready, record.detail) == (False, "assets: no other node has them")
