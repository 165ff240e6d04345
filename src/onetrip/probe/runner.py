"""Runs the probes of one node: a short loop around the plan, one task for each probe under way.

Results leave through two callbacks, called in the event loop: the runner keeps no estimates and
decides nothing but when to probe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import BackendKind
from onetrip.model.measure import Sample, Target
from onetrip.model.topology import HttpProtocol, RegionId
from onetrip.net.dial import Dial
from onetrip.net.knock import Knock, TcpKnock
from onetrip.net.resolve import CachingResolver, Resolve
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.probe.base import Network, Probe, ProbeSpec
from onetrip.probe.http import HttpProbe
from onetrip.probe.plan import (
    PlanState,
    ProbeSettings,
    note_failure,
    note_recovery,
    note_success,
    note_suspicion,
    note_untried,
    plan_probes,
    set_targets,
    timeout_of,
    wait_until_due,
)
from onetrip.tasks import Tasks
from onetrip.timing import Clock

_MAX_WAIT = 0.25
"""Longest sleep of the loop, s: how late a new target can be noticed."""

_STOP_TIMEOUT = 2.0


def make_probe(spec: ProbeSpec, network: Network) -> Probe:
    """Return the probe that speaks the spec's protocol; a node loads those that it uses."""
    if spec.kind is BackendKind.POSTGRES:
        from onetrip.probe.postgres import PostgresProbe

        return PostgresProbe(spec, network)
    if spec.kind is BackendKind.HTTP:
        if spec.endpoint.protocol is HttpProtocol.HTTP1:
            return HttpProbe(spec, network)
        from onetrip.probe.http2 import Http2Probe  # needs an optional package

        return Http2Probe(spec, network)
    from onetrip.probe.handshake import MysqlProbe, RedisProbe, TcpProbe

    probes: dict[BackendKind, Callable[[ProbeSpec, Network], Probe]] = {
        BackendKind.TCP: TcpProbe,
        BackendKind.MYSQL: MysqlProbe,
        BackendKind.REDIS: RedisProbe,
    }
    return probes[spec.kind](spec, network)


@dataclass(slots=True)
class _Entry:
    spec: ProbeSpec
    probe: Probe


class ProbeRunner:
    """Measures every target in its turn until stopped.

    Args:
        region: this node's region, for the log.
        on_sample: called with every RTT.
        on_failure: called with every failed probe.
        knock: how TCP handshakes are timed; the real network by default. Give it the node's
            source address where `dial` has one.
        resolve: names to addresses; the system's resolver behind a cache by default.
        factory: makes the probe for a spec.
    """

    def __init__(
        self,
        region: RegionId,
        dial: Dial,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        settings: ProbeSettings,
        on_sample: Callable[[Sample], object],
        on_failure: Callable[[Target, ProbeError], None],
        *,
        knock: Knock | None = None,
        resolve: Resolve | None = None,
        factory: Callable[[ProbeSpec, Network], Probe] = make_probe,
    ) -> None:
        self._network = Network(
            dial, knock or TcpKnock(clock), resolve or CachingResolver(clock), clock
        )
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log.bind(region=region)
        self._settings = settings
        self._on_sample = on_sample
        self._on_failure = on_failure
        self._factory = factory
        self._state = PlanState()
        self._entries: dict[Target, _Entry] = {}
        self._tasks = Tasks(self._report_crash)

    @property
    def targets(self) -> frozenset[Target]:
        """Return what is probed now."""
        return frozenset(self._entries)

    def set_specs(self, specs: Sequence[ProbeSpec]) -> None:
        """Probe exactly `specs` from now on; unchanged ones keep their connection and schedule.

        A probe under way for a spec that is gone or changed is not reported.
        """
        entries: dict[Target, _Entry] = {}
        for spec in specs:
            entry = self._entries.get(spec.target)
            if entry is None or entry.spec != spec:
                entry = _Entry(spec, self._factory(spec, self._network))
            entries[spec.target] = entry
        old, self._entries = self._entries, entries
        for target, entry in old.items():
            if entries.get(target) is not entry:
                entry.probe.close()
                self._state.schedules.pop(target, None)
        set_targets(self._state, entries, self._clock.now(), self._rng)

    def start(self) -> None:
        """Begin probing; needs a running event loop."""
        self._tasks.spawn(self._run(), "probe")

    async def stop(self) -> None:
        """End every probe and close what they keep."""
        await self._tasks.cancel(_STOP_TIMEOUT)
        for entry in self._entries.values():
            entry.probe.close()

    async def _run(self) -> None:
        while True:
            now = self._clock.now()
            for target in plan_probes(self._state, now, self._rng, self._settings):
                timeout = timeout_of(self._state, target, self._settings)
                self._tasks.spawn(self._probe(self._entries[target], timeout), f"probe {target}")
            await self._clock.sleep(wait_until_due(self._state, now, _MAX_WAIT))

    async def _probe(self, entry: _Entry, timeout: float) -> None:
        target = entry.spec.target
        self._metrics.probes.labels(kind=target.kind.value).inc()
        try:
            sample = await entry.probe.run(timeout)
        except ProbeError as error:
            self._fail(entry, error)
        except Exception as error:
            # A bug in one probe must not stop that target's schedule for ever.
            self._fail(entry, ProbeError(f"probe of {target} crashed", kind=Kind.INVALID))
            raise error
        else:
            self._succeed(entry, sample)
        if self._entries.get(target) is not entry:
            entry.probe.close()

    def _succeed(self, entry: _Entry, sample: Sample) -> None:
        target = entry.spec.target
        if self._entries.get(target) is not entry:
            return
        schedule = self._state.schedules[target]
        was_down, failures = schedule.to_confirm > 0, schedule.failures
        note_success(self._state, target, sample.rtt)
        if schedule.to_confirm:
            note_recovery(self._state, target, self._rng, self._settings)
        elif was_down:
            self._log.info("probe.recovered", target=str(target), failures=failures)
        if self._on_sample(sample):
            note_suspicion(self._state, target, self._rng, self._settings)

    def _fail(self, entry: _Entry, error: ProbeError) -> None:
        target = entry.spec.target
        if self._entries.get(target) is not entry:
            return
        self._metrics.probe_failures.labels(kind=target.kind.value, failure=error.kind.value).inc()
        if error.kind is Kind.EXHAUSTED:
            note_untried(self._state, target, self._clock.now(), self._rng, self._settings)
            return
        failures = note_failure(self._state, target, self._clock.now(), self._rng, self._settings)
        self._log_failure(target, error, failures)
        self._on_failure(target, error)

    def _log_failure(self, target: Target, error: ProbeError, failures: int) -> None:
        # Two lines an outage, whatever its length: the first failure, and when it counts as down.
        fields = {"target": str(target), "kind": error.kind.value, "reason": str(error)}
        if error.kind is Kind.DENIED:
            self._log.warning("probe.denied", **fields)
        elif failures == self._settings.failing_after:
            self._log.warning("probe.target_lost", failures=failures, **fields)
        elif failures == 1:
            self._log.info("probe.failed", **fields)

    def _report_crash(self, name: str, error: BaseException) -> None:
        self._metrics.task_failures.labels(task="probe").inc()
        kind = type(error).__name__
        self._log.error("probe.crashed", cause=error, task=name, error=kind)
