"""Which endpoints of a backend may be read from, and which one is its primary.

A replica that is too far behind is left out at once and comes back late: only after its lag was at
most half the limit for a while. So one that swings about the limit stays out, and one left out
cannot be back before `least_absence`. What is not known changes nothing: an account that expires
must not move the reads of a whole cluster, and an endpoint that is down is noticed by its probes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onetrip.model.catalog import Backend
from onetrip.model.replication import EndpointState, Role

LEAST_ABSENCE = 5.0
"""Shortest time that a replica is left out, s; at least three looks."""

RETURN_RATIO = 0.5
"""Share of the greatest lag allowed at which a replica begins to count as fresh again."""

BELIEVED_LOOKS, BELIEVED_FOR = 5, 15.0
"""How long the last word of a silent endpoint is believed: looks, and s, whichever is longer."""


@dataclass(frozen=True, slots=True)
class FreshnessChange:
    """What is different from the last round.

    Attributes:
        kind: "lagging", "fresh" or "promoted".
        detail: for people.
    """

    backend: str
    endpoint: str
    kind: str
    detail: str


class FreshnessBook:
    """The verdicts of one node, from round to round."""

    def __init__(self) -> None:
        self._out: dict[str, dict[str, float]] = {}  # since when fresh again, inf while not
        self._primaries: dict[str, str] = {}

    @property
    def lagging(self) -> frozenset[str]:
        """Endpoints that are not to be read from."""
        return frozenset(name for out in self._out.values() for name in out)

    @property
    def moved(self) -> dict[str, str]:
        """The primary of each backend where that is another endpoint than the declared one."""
        return dict(self._primaries)

    def primary(self, backend: str) -> str:
        """Return the endpoint that is the primary of a backend."""
        return self._primaries.get(backend, backend)

    def keep(self, backends: Collection[str]) -> None:
        """Forget all other backends."""
        for known in (self._out, self._primaries):
            for name in known.keys() - set(backends):
                del known[name]

    def update(
        self, backend: Backend, states: Mapping[str, EndpointState], now: float
    ) -> list[FreshnessChange]:
        """Take in what is known of a backend's endpoints now."""
        access = backend.replication
        assert access is not None
        believed = {
            name: state
            for name, state in states.items()
            if name in backend.endpoints
            and state.age <= max(BELIEVED_FOR, BELIEVED_LOOKS * access.interval)
        }
        changes = self._elect(backend, believed)
        primary = self.primary(backend.name)
        out = self._out.setdefault(backend.name, {})
        for name in [name for name in out if name not in backend.endpoints or name == primary]:
            del out[name]
        least_absence = max(LEAST_ABSENCE, 3 * access.interval)
        for name, state in believed.items():
            if name == primary:
                continue
            fault = fault_of(state, access.max_lag)
            if fault:
                if name not in out:
                    changes.append(FreshnessChange(backend.name, name, "lagging", fault))
                out[name] = math.inf
            elif name in out and state.lag <= RETURN_RATIO * access.max_lag:
                out[name] = min(out[name], now)
                if now - out[name] >= least_absence:
                    del out[name]
                    detail = f"{state.lag:.3g} s behind"
                    changes.append(FreshnessChange(backend.name, name, "fresh", detail))
            elif name in out and not math.isnan(state.lag):
                out[name] = math.inf
        return changes

    def _elect(
        self, backend: Backend, states: Mapping[str, EndpointState]
    ) -> list[FreshnessChange]:
        present = self.primary(backend.name)
        if present not in backend.endpoints:
            present = backend.name
            del self._primaries[backend.name]
        claims = {n: s.timeline for n in backend.endpoints if (s := states.get(n)) and _leads(s)}
        # Two may say so after a failover: whoever was promoted later does, else who did before.
        best = max(claims, key=lambda n: (claims[n], n == present), default=present)
        if best == present:
            return []
        if best == backend.name:
            self._primaries.pop(backend.name, None)
        else:
            self._primaries[backend.name] = best
        return [FreshnessChange(backend.name, best, "promoted", f"was {present}")]


def fault_of(state: EndpointState, max_lag: float) -> str:
    """Return why a replica is not to be read from, "" where nothing speaks against it."""
    if state.role is Role.UNKNOWN:
        return ""
    if state.role is Role.PRIMARY:
        return "says that it is a primary, too"
    if state.lag > max_lag:
        return f"{state.lag:.3g} s behind, at most {max_lag:g} s are allowed"
    if not state.is_replicating and state.lag != 0:
        return "replication has stopped"
    return ""


def _leads(state: EndpointState) -> bool:
    return state.role is Role.PRIMARY
