"""Which instances take no requests for a while, judged by how their requests ended.

A pure machine: outcomes and the time go in, verdicts come out. An instance is ejected when its
failures follow each other, when most of a window's requests failed, or when it fails clearly more
often than its group does. It returns after a time that grows with each ejection in a row.

The instances of one environment are a group. At most a share of a group is ejected, and never its
last instance that can serve: when everything fails, the instances are not what is wrong.

Source: the rules and their defaults follow Envoy's outlier detection
(envoyproxy.io, "Outlier detection"), but for what the constants below say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from onetrip.errors import ConfigError

LEAST_INSTANCES = 5
"""Instances with enough requests before they are compared: one outlier among n lies at most
sqrt(n - 1) deviations below the mean, which has to exceed the usual 1.9."""

LEAST_GAP = 0.05
"""Success rate below the group's mean that counts as an outlier, whatever the deviation: among
instances that nearly never fail, the deviation is too small to mean anything."""

_BOUNDS: dict[str, tuple[float, float]] = {
    "errors": (0, 10_000),
    "gateway_errors": (0, 10_000),
    "connect_errors": (0, 10_000),
    "interval": (0.05, 3600),
    "least_requests": (1, 1_000_000),
    "failure_ratio": (0, 1),
    "deviation": (0, 10),
    "base_time": (0.05, 3600),
    "max_time": (0.05, 86_400),
    "max_share": (0, 1),
}


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """When instances are ejected, and for how long; 0 turns a rule off.

    Attributes:
        errors: failures of any kind in a row, 5xx answers among them.
        gateway_errors: 502, 503, 504, or no complete answer, in a row.
        connect_errors: connections in a row that could not be opened.
        interval: length of the window that ratios are taken over, s.
        least_requests: of one instance in one window before its ratio counts.
        failure_ratio: share of a window's requests that failed.
        deviation: standard deviations below the group's mean success rate.
        base_time: of the first ejection, s; the n-th in a row lasts n times as long.
        max_time: of any ejection, s.
        max_share: of a group ejected at once, a ratio; 0 ejects nothing.
    """

    errors: int = 5
    gateway_errors: int = 5
    connect_errors: int = 3
    interval: float = 10.0
    least_requests: int = 50
    failure_ratio: float = 0.85
    deviation: float = 1.9
    base_time: float = 30.0
    max_time: float = 300.0
    max_share: float = 0.5

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"proxy.ejection.{name} of {value:g} is not in {low:g}-{high:g}")
        if self.max_time < self.base_time:
            raise ConfigError(
                f"proxy.ejection.max_time of {self.max_time:g} is below "
                f"proxy.ejection.base_time of {self.base_time:g}"
            )


class Failure(Enum):
    """How an exchange with an instance failed; each kind counts as the ones before it, too."""

    ERROR = 1
    """A 5xx answer that the application itself gave."""
    GATEWAY = 2
    """502, 503, 504, or no complete answer."""
    CONNECT = 3
    """No connection."""


class Reason(Enum):
    """Why an instance was ejected or returned; a metric label."""

    ERRORS = "errors"
    GATEWAY_ERRORS = "gateway_errors"
    CONNECT_ERRORS = "connect_errors"
    FAILURE_RATIO = "failure_ratio"
    SUCCESS_RATE = "success_rate"
    TIME = "time"
    """It has been out long enough."""
    CATALOG = "catalog"
    """It is gone, or its group shrank and would have kept too few."""


class Health:
    """How the requests of one instance have ended of late.

    Attributes:
        name: of the instance, for people.
        requests, failures: in this window.
        errors, gateway_errors, connect_errors: in a row.
        ejections: how often it was ejected; one less after each window without a new one.
        is_ejected: it takes no requests now.
        ejected_until: when it returns, monotonic s.
        warm_from: when it began to start slowly, monotonic s; 0 once it takes its full share.
    """

    __slots__ = (
        "connect_errors",
        "ejected_until",
        "ejections",
        "errors",
        "failures",
        "gateway_errors",
        "groups",
        "is_ejected",
        "name",
        "requests",
        "warm_from",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.groups: tuple[Sequence[Health], ...] = ()
        self.ejections = 0
        self.is_ejected = False
        self.ejected_until = 0.0
        self.warm_from = 0.0
        self.requests = self.failures = 0
        self.errors = self.gateway_errors = self.connect_errors = 0

    def note_success(self) -> None:
        """Count a request that ended well."""
        self.requests += 1
        if self.errors:
            self.errors = self.gateway_errors = self.connect_errors = 0

    def clear(self) -> None:
        """Forget what has been counted, but not the ejections."""
        self.requests = self.failures = 0
        self.errors = self.gateway_errors = self.connect_errors = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """An instance was ejected or has returned.

    Attributes:
        instance: its name.
        duration: of an ejection, s; 0 for a return.
        detail: what was counted, for people.
    """

    instance: str
    is_ejected: bool
    reason: Reason
    duration: float
    detail: str


class Ejector:
    """Judges the instances of one node.

    Args:
        is_ready: whether an instance can serve apart from what is counted here.
        on_kept: told when a rule asks for an ejection that would leave too few.
    """

    def __init__(
        self,
        settings: EjectionSettings,
        is_ready: Callable[[Health], bool],
        on_kept: Callable[[Reason], None],
        now: float,
    ) -> None:
        self._settings = settings
        self._is_ready = is_ready
        self._on_kept = on_kept
        self._window_began_at = now
        self._groups: list[list[Health]] = []
        self._all: list[Health] = []
        self._ejected: dict[Health, None] = {}

    @property
    def ejected(self) -> int:
        """How many instances are ejected now."""
        return len(self._ejected)

    def update(self, groups: Iterable[Iterable[Health]], now: float) -> list[Verdict]:
        """Use other groups; return the instances that are gone or cannot be done without now."""
        self._groups = [list(dict.fromkeys(group)) for group in groups]
        found: dict[Health, list[list[Health]]] = {}
        for group in self._groups:
            for health in group:
                found.setdefault(health, []).append(group)
        for health in self._all:
            health.groups = ()
        for health, its_groups in found.items():
            health.groups = tuple(its_groups)
        self._all = list(found)
        returned: list[Verdict] = []
        for health in list(self._ejected):  # in the order they were ejected
            if not health.groups:
                returned.append(self._return(health, Reason.CATALOG, "it is gone", now))
            elif not all(self._is_within_share(group, 0) for group in health.groups):
                detail = "its group became smaller"
                returned.append(self._return(health, Reason.CATALOG, detail, now))
        return returned

    def note_failure(self, health: Health, failure: Failure, now: float) -> Verdict | None:
        """Count a request that failed; the verdict if that was one too many.

        What is in no group, such as a peer's node, is not judged.
        """
        settings = self._settings
        if not health.groups:
            return None
        health.requests += 1
        health.failures += 1
        health.errors += 1
        health.gateway_errors = health.gateway_errors + 1 if failure is not Failure.ERROR else 0
        health.connect_errors = health.connect_errors + 1 if failure is Failure.CONNECT else 0
        if health.is_ejected:  # a request that was under way, or a last resort
            return None
        for reason, count, limit in (
            (Reason.CONNECT_ERRORS, health.connect_errors, settings.connect_errors),
            (Reason.GATEWAY_ERRORS, health.gateway_errors, settings.gateway_errors),
            (Reason.ERRORS, health.errors, settings.errors),
        ):
            # Not at each further failure: looking whether it may go costs more than counting.
            if limit and count and count % limit == 0:
                return self._eject(health, reason, f"{count} in a row", now)
        return None

    def tick(self, now: float) -> list[Verdict]:
        """Return what time has changed: instances that are back, and the verdicts of a window."""
        verdicts = [
            self._return(health, Reason.TIME, "", now)
            for health in [h for h in self._ejected if h.ejected_until <= now]
        ]
        if now >= self._window_began_at + self._settings.interval:
            verdicts += self._judge_window(now)
            self._window_began_at = now
        return verdicts

    def _judge_window(self, now: float) -> list[Verdict]:
        verdicts: list[Verdict | None] = []
        enough = self._settings.least_requests
        busy = [h for h in self._all if h.requests >= enough and not h.is_ejected]
        limit = self._settings.failure_ratio
        for health in busy:
            ratio = health.failures / health.requests
            if limit and ratio >= limit:
                detail = f"{health.failures} of {health.requests} requests failed"
                verdicts.append(self._eject(health, Reason.FAILURE_RATIO, detail, now))
        if self._settings.deviation and any(h.failures for h in busy):
            for group in self._groups:
                verdicts += self._judge_group(group, now)
        for health in self._all:
            health.requests = health.failures = 0
            was_out = health.is_ejected or health.ejected_until > self._window_began_at
            if health.ejections and not was_out:
                health.ejections -= 1
        return [verdict for verdict in verdicts if verdict is not None]

    def _judge_group(self, group: list[Health], now: float) -> list[Verdict | None]:
        enough = self._settings.least_requests
        rates = {
            h: 1 - h.failures / h.requests
            for h in group
            if h.requests >= enough and not h.is_ejected
        }
        if len(rates) < LEAST_INSTANCES:
            return []
        mean = math.fsum(rates.values()) / len(rates)
        spread = math.sqrt(math.fsum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
        least = mean - max(self._settings.deviation * spread, LEAST_GAP)
        return [
            self._eject(
                health,
                Reason.SUCCESS_RATE,
                f"{rate:.1%} of requests succeeded, {mean:.1%} in its group",
                now,
            )
            for health, rate in rates.items()
            if rate < least
        ]

    def _eject(self, health: Health, reason: Reason, detail: str, now: float) -> Verdict | None:
        if not self._may_eject(health):
            if self._settings.max_share:
                self._on_kept(reason)
            return None
        health.ejections += 1
        duration = min(self._settings.base_time * health.ejections, self._settings.max_time)
        health.is_ejected = True
        health.ejected_until = now + duration
        self._ejected[health] = None
        return Verdict(health.name, True, reason, duration, detail)

    def _return(self, health: Health, reason: Reason, detail: str, now: float) -> Verdict:
        del self._ejected[health]
        health.is_ejected = False
        health.clear()
        health.warm_from = now
        return Verdict(health.name, False, reason, 0.0, detail)

    def _may_eject(self, health: Health) -> bool:
        return bool(health.groups) and all(
            self._is_within_share(group, 1)
            and any(h is not health and not h.is_ejected and self._is_ready(h) for h in group)
            for group in health.groups
        )

    def _is_within_share(self, group: Sequence[Health], more: int) -> bool:
        ejected = sum(h.is_ejected for h in group) + more
        return ejected < len(group) and ejected <= self._settings.max_share * len(group) + 1e-9
