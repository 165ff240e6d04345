"""Passive health: tells the ejection machine how exchanges ended, and people what it decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onetrip.errors import Kind, UpstreamError
from onetrip.model.measure import Target, TargetKind
from onetrip.observe.metrics import Metrics
from onetrip.proxy.ejection import EjectionSettings, Ejector, Failure, Verdict
from onetrip.proxy.pick import IsReady
from onetrip.proxy.pool import EndpointPool
from onetrip.timing import Clock

OnVerdict = Callable[[Verdict], None]

LIMITS = frozenset((Kind.CONNECTION_LIMIT, Kind.QUEUE_LIMIT, Kind.REQUEST_LIMIT))
"""What a node refuses so that an instance, or its own memory, is not overrun."""

_GATEWAY_STATUSES = frozenset((502, 503, 504))
_TELLING = frozenset((Kind.CONNECT, Kind.RESET, Kind.TIMEOUT, Kind.DEADLINE, Kind.MALFORMED))
"""Kinds of failure that say something about the instance; a limit of ours does not."""


class Outliers:
    """Ejects and returns the instances of one node.

    Args:
        is_ready: whether a target can serve, by the latest probes.
        on_verdict: told about every instance that is ejected or returns.
    """

    def __init__(
        self,
        settings: EjectionSettings,
        is_ready: IsReady,
        clock: Clock,
        metrics: Metrics,
        on_verdict: OnVerdict,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._on_verdict = on_verdict
        self.is_ready = is_ready
        self._ejector = Ejector(
            settings,
            lambda health: is_ready(Target(TargetKind.INSTANCE, health.name)),
            lambda reason: metrics.ejections_kept.labels(reason.value).inc(),
            clock.now(),
        )

    @property
    def ejected(self) -> int:
        """How many instances are ejected now."""
        return self._ejector.ejected

    def update(self, groups: Iterable[list[EndpointPool]]) -> None:
        """Judge the instances of these environments from now on."""
        healths = ([pool.health for pool in group] for group in groups)
        self._tell(self._ejector.update(healths, self._clock.now()))

    def note_status(self, pool: EndpointPool, status: int) -> None:
        """Count an answer of an instance that failed, or whose body is none of HTTP's."""
        if status < 500:
            pool.health.note_success()
            return
        failure = Failure.GATEWAY if status in _GATEWAY_STATUSES else Failure.ERROR
        self._fail(pool, failure)

    def note_error(self, pool: EndpointPool, error: UpstreamError, *, was_sent: bool) -> None:
        """Count an attempt that ended without a whole answer.

        Args:
            was_sent: there was a connection.
        """
        if error.kind in LIMITS:
            self.note_overflow(error)
        elif error.kind in _TELLING and (was_sent or error.kind is not Kind.DEADLINE):
            self._fail(pool, Failure.GATEWAY if was_sent else Failure.CONNECT)

    def note_overflow(self, error: UpstreamError) -> UpstreamError:
        """Count a limit that was reached; returns `error`."""
        self._metrics.overflows.labels(error.kind.value).inc()
        return error

    def tick(self) -> None:
        """Let time pass; call it a few times a second."""
        self._tell(self._ejector.tick(self._clock.now()))

    def _fail(self, pool: EndpointPool, failure: Failure) -> None:
        verdict = self._ejector.note_failure(pool.health, failure, self._clock.now())
        if verdict is not None:
            self._tell([verdict])

    def _tell(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.is_ejected:
                self._metrics.ejections.labels(verdict.reason.value).inc()
            self._on_verdict(verdict)
        self._metrics.ejected.set(self._ejector.ejected)
