"""Samples to RTT estimates: one filter per target, and the book of all targets of a node.

The estimate that scores use is the *base RTT*: the minimum of a window. Queueing, a busy event
loop and a server's thinking time only ever add to a sample, so the smallest of the recent ones is
nearest to the path itself (the same reasoning as the min filter of BBR, Cardwell et al., ACM
Queue 2016, and of RFC 6817 for LEDBAT). A shift detector restarts the window when the old level
is gone. SRTT and RTTVAR follow RFC 6298 section 2 and serve people, timeouts and margins.

Pure: times are passed in, monotonic seconds of the node that measured.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from onetrip.errors import ConfigError, Kind, ProbeError
from onetrip.estimate.change import Shift, ShiftDetector, ShiftSettings
from onetrip.model.measure import EstimateState, RttEstimate, Sample, Target

MAX_RTT = 60.0
"""Largest sample taken, s; a longer one is a broken clock or a suspended machine."""

RELATIVE_ERROR = 0.005
"""Standard deviation of the mean RTT about the base RTT, as a ratio of it.

How far pings average above their minimum, 68th percentile of the pairs over 20 ms: AWS 2020 0.13 %,
multi-cloud 2022 0.19 %, WonderProxy 2020 0.59 %, GCP 2020 0.66 %. Base RTTs drift less: between
two windows of fifteen four-minute pings of RIPE Atlas, 0.3 % in nine cases of ten (the tests take
that from the traces in `tests/data`).
"""

_ALPHA = 1 / 8
"""Gain of SRTT (RFC 6298 section 2.3)."""

_BETA = 1 / 4
"""Gain of RTTVAR (RFC 6298 section 2.3)."""

_ABSURD_RATIO = 0.5
"""A sample below this ratio of the base must repeat once before it is believed."""


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Windows and limits of a filter; times in s.

    Attributes:
        window: how far back the minimum looks.
        max_samples: most samples the minimum looks back.
        max_age: an estimate whose last success is older is stale.
        failing_after: failures in a row that make a target count as down.
        recovered_after: successes in a row after which it counts as up again.
        shift: evidence for a level shift.
    """

    window: float = 60.0
    max_samples: int = 64
    max_age: float = 30.0
    failing_after: int = 3
    recovered_after: int = 1
    shift: ShiftSettings = field(default_factory=ShiftSettings)

    def __post_init__(self) -> None:
        _check_range("window", self.window, 1.0, 86_400.0)
        _check_range("max_samples", self.max_samples, 8, 4096)
        _check_range("max_age", self.max_age, 0.1, 86_400.0)
        _check_range("failing_after", self.failing_after, 1, 100)
        _check_range("recovered_after", self.recovered_after, 1, 100)


class WindowedMinimum:
    """The minimum of the latest samples, by time and by count; O(1) amortised a sample.

    A queue of samples that are still candidates: each is smaller than all that came before it
    and larger than none that come after.
    """

    __slots__ = ("_candidates", "_count", "_max_samples", "_window")

    def __init__(self, window: float, max_samples: int) -> None:
        self._window = window
        self._max_samples = max_samples
        self._candidates: deque[tuple[int, float, float]] = deque()
        self._count = 0

    def add(self, value: float, at: float) -> None:
        """Take one value; `at` never decreases."""
        self._count += 1
        while self._candidates and self._candidates[-1][2] >= value:
            self._candidates.pop()
        self._candidates.append((self._count, at, value))
        oldest = self._count - self._max_samples
        while self._candidates[0][0] <= oldest or self._candidates[0][1] < at - self._window:
            self._candidates.popleft()

    def value(self) -> float:
        """Return the minimum, NaN before the first value."""
        return self._candidates[0][2] if self._candidates else math.nan

    def clear(self) -> None:
        """Forget every value."""
        self._candidates.clear()


class RttFilter:
    """Turns the samples and failures of one target into an estimate."""

    __slots__ = (
        "_detector",
        "_failures",
        "_is_down",
        "_last_at",
        "_minimum",
        "_recent",
        "_rttvar",
        "_samples",
        "_settings",
        "_srtt",
        "_successes",
        "_suspect",
        "_target",
        "_updated_at",
    )

    def __init__(self, target: Target, settings: FilterSettings | None = None) -> None:
        self._target = target
        self._settings = settings or FilterSettings()
        self._minimum = WindowedMinimum(self._settings.window, self._settings.max_samples)
        self._detector = ShiftDetector(self._settings.shift)
        self._recent: deque[tuple[float, float]] = deque(maxlen=self._settings.max_samples)
        self._srtt = self._rttvar = math.nan
        self._suspect: tuple[float, float] | None = None
        self._samples = self._failures = self._successes = 0
        self._is_down = False
        self._updated_at = 0.0
        self._last_at = -math.inf

    def record(self, rtt: float, at: float) -> None:
        """Take one sample, s, measured at `at`.

        Raises:
            ProbeError: kind INVALID; the RTT is not a number in [0, `MAX_RTT`].
        """
        check_rtt(self._target, rtt)
        # Samples of two probes may finish out of order; the window needs time to move forward.
        at = self._last_at = max(at, self._last_at)
        self._samples += 1
        self._failures = 0
        self._successes += 1
        if self._successes >= self._settings.recovered_after:
            self._is_down = False
        self._updated_at = at
        if self._is_absurd(rtt):
            if self._suspect is None:
                self._suspect = (rtt, at)
                return
            first, first_at = self._suspect
            self._suspect = None
            self._take(first, first_at)
        self._suspect = None
        self._take(rtt, at)

    @property
    def is_suspicious(self) -> bool:
        """Tell whether the level may be shifting: the sooner the next sample, the sooner known."""
        return self._suspect is not None or self._detector.is_suspicious

    def fail(self, at: float) -> None:
        """Take one failed probe."""
        self._last_at = max(at, self._last_at)
        self._failures += 1
        self._successes = 0
        if self._failures >= self._settings.failing_after:
            self._is_down = True

    def estimate(self, now: float) -> RttEstimate:
        """Return the estimate as of `now`, s."""
        return RttEstimate(
            target=self._target,
            rtt=self._minimum.value(),
            srtt=self._srtt,
            rttvar=self._rttvar,
            samples=self._samples,
            failures=self._failures,
            updated_at=self._updated_at,
            state=self._state(now),
        )

    def _state(self, now: float) -> EstimateState:
        if self._is_down:
            return EstimateState.FAILING
        if not self._samples:
            return EstimateState.UNKNOWN
        is_stale = now - self._updated_at > self._settings.max_age
        return EstimateState.STALE if is_stale else EstimateState.FRESH

    def _is_absurd(self, rtt: float) -> bool:
        return rtt < _ABSURD_RATIO * self._minimum.value()  # false while NaN

    def _take(self, rtt: float, at: float) -> None:
        self._smooth(rtt)
        self._recent.append((rtt, at))
        if self._detector.update(rtt) is Shift.UP:
            self._restart()
        else:
            self._minimum.add(rtt, at)

    def _smooth(self, rtt: float) -> None:
        if math.isnan(self._srtt):
            self._srtt, self._rttvar = rtt, rtt / 2
            return
        # RTTVAR first: it needs the old SRTT (RFC 6298 section 2.3).
        self._rttvar += _BETA * (abs(self._srtt - rtt) - self._rttvar)
        self._srtt += _ALPHA * (rtt - self._srtt)

    def _restart(self) -> None:
        # A spike of the old level just before the shift is part of the run, and would pass for
        # the new minimum: what is nearer to the old base than to the new level stays out.
        halfway = (self._minimum.value() + self._detector.level) / 2
        kept = list(self._recent)[-self._detector.run :]
        self._minimum.clear()
        for rtt, at in kept:
            if rtt >= halfway:
                self._minimum.add(rtt, at)


class RttBook:
    """The filters of every target that one node measures."""

    def __init__(self, settings: FilterSettings | None = None) -> None:
        self._settings = settings or FilterSettings()
        self._filters: dict[Target, RttFilter] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def record(self, sample: Sample) -> bool:
        """Take one sample.

        Returns:
            Whether another one is wanted soon, because the level may be shifting.

        Raises:
            ProbeError: kind INVALID; see `RttFilter.record`.
        """
        check_rtt(sample.target, sample.rtt)
        known = self._filter(sample.target)
        known.record(sample.rtt, sample.taken_at)
        return known.is_suspicious

    def fail(self, target: Target, at: float) -> None:
        """Take one failed probe of `target`."""
        self._filter(target).fail(at)

    def estimates(self, now: float) -> dict[Target, RttEstimate]:
        """Return the estimate of every target as of `now`, s."""
        return {target: known.estimate(now) for target, known in self._filters.items()}

    def prune(self, targets: Iterable[Target]) -> None:
        """Forget every target that is not among `targets`; keeps the book bounded."""
        kept = set(targets)
        self._filters = {t: known for t, known in self._filters.items() if t in kept}

    def _filter(self, target: Target) -> RttFilter:
        if target not in self._filters:
            self._filters[target] = RttFilter(target, self._settings)
        return self._filters[target]


def check_rtt(target: Target, rtt: float) -> None:
    """Refuse a value that cannot be an RTT.

    Raises:
        ProbeError: kind INVALID; the RTT is not a number in [0, `MAX_RTT`].
    """
    if not 0.0 <= rtt <= MAX_RTT:  # also refuses NaN
        raise ProbeError(
            f"rtt of {target} is {rtt!r} s, not in [0, {MAX_RTT:g}]", kind=Kind.INVALID
        )


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} of {value!r} is not in [{least:g}, {most:g}]")
