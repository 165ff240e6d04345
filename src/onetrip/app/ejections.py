"""Tells people and peers which instances the proxy has ejected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.observe.logs import Log
from onetrip.proxy.ejection import Verdict


class EjectionLog:
    """Makes an event and a log line of every verdict.

    Args:
        tell: makes an event of a name, a subject and a detail.
    """

    def __init__(self, tell: Callable[[str, str, str], None], log: Log) -> None:
        self._tell = tell
        self._log = log
        self._ejected: set[Target] = set()

    def note(self, verdict: Verdict) -> None:
        """Tell about an instance that was ejected or is back."""
        name = verdict.instance
        target = Target(TargetKind.INSTANCE, name)
        if not verdict.is_ejected:
            self._ejected.discard(target)
            detail = verdict.detail or "its time is over"
            self._log.info("proxy.instance_returned", instance=name, reason=verdict.reason.value)
            self._tell("proxy.instance_returned", name, detail)
            return
        self._ejected.add(target)
        reason = verdict.reason.value.replace("_", " ")
        self._log.warning(
            "proxy.instance_ejected",
            instance=name,
            reason=verdict.reason.value,
            duration=verdict.duration,
            detail=verdict.detail,
        )
        detail = f"{reason}: {verdict.detail}; for {verdict.duration:g} s"
        self._tell("proxy.instance_ejected", name, detail)

    def as_failing(self, rows: Iterable[RttEstimate]) -> Iterable[RttEstimate]:
        """Return a report's rows with ejected instances as failing, so that peers go elsewhere."""
        if not self._ejected:
            return rows
        return [
            replace(row, state=EstimateState.FAILING) if row.target in self._ejected else row
            for row in rows
        ]
