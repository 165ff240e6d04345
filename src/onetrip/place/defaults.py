"""The default placement: where requests run when no score says otherwise.

The edge itself, or else the nearest region that can serve. Routes that have not been seen yet run
there, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import EnvironmentId, Mode, Policy
from onetrip.model.measure import MethodClass
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import RegionId
from onetrip.place.hysteresis import MIN_REQUESTS


@dataclass(frozen=True, slots=True)
class EnvironmentInput:
    """An environment as placement sees it.

    Attributes:
        backends: names of its bound backends, each once.
        instances: regions that have an instance, and whether one there is ready.
    """

    id: EnvironmentId
    policy: Policy
    backends: tuple[str, ...]
    instances: Mapping[RegionId, bool]
    nearest: Mapping[str, str] = field(default_factory=dict)
    """Backends read from their nearest endpoint: name to the column with the RTTs to that."""

    @property
    def place(self) -> tuple[EnvironmentId, frozenset[RegionId]]:
        """What its usable regions depend on, beside the matrix."""
        return self.id, self.policy.deny

    def without(self, denied: frozenset[RegionId]) -> EnvironmentInput:
        """Return it for a route that must never run in some regions."""
        if not denied:
            return self
        return replace(self, policy=replace(self.policy, deny=self.policy.deny | denied))

    def columns(self, method: MethodClass) -> tuple[str, ...]:
        """Return the matrix's columns with the RTTs of its backends that such requests see."""
        if method is MethodClass.WRITE or not self.nearest:
            return self.backends
        return tuple(self.nearest.get(name, name) for name in self.backends)


def usable_regions(matrix: RttMatrix, env: EnvironmentInput) -> np.ndarray:
    """Tell which regions are permitted and have a ready instance, shape (R,)."""
    usable = [env.instances.get(r, False) and env.policy.permits(r) for r in matrix.regions]
    return np.array(usable, dtype=bool)


def default_region(matrix: RttMatrix, edge: RegionId, usable: np.ndarray) -> int:
    """Return the index of the default region, -1 when none is usable.

    Of the other regions the nearest that was measured, or else the nearest by its coordinates.
    """
    row = matrix.regions.index(edge)
    if not usable.any():
        return -1
    if usable[row]:
        return row
    distance = np.nan_to_num(matrix.rtt[row], nan=1e9) + np.where(matrix.is_predicted[row], 1e6, 0)
    return int(np.argmin(np.where(usable, distance, np.inf)))


def unseen_placements(
    matrix: RttMatrix, edge: RegionId, environments: Iterable[EnvironmentInput]
) -> dict[EnvironmentId, Placement]:
    """Return `unseen_placement` of each environment.

    Thousands of environments have the same few sets of regions; each set is looked at once.
    """
    known: dict[tuple[object, ...], Placement] = {}
    found: dict[EnvironmentId, Placement] = {}
    for env in environments:
        policy = env.policy
        serving = frozenset([r for r, ok in env.instances.items() if ok and policy.permits(r)])
        key = (serving, policy.mode, policy.hint, policy.share)
        placement = known.get(key)
        if placement is None:
            placement = known[key] = unseen_placement(matrix, edge, env)
        found[env.id] = placement
    return found


def unseen_placement(matrix: RttMatrix, edge: RegionId, env: EnvironmentInput) -> Placement:
    """Return the placement of routes that have not been seen: the default, then the nearest."""
    usable = usable_regions(matrix, env)
    start = default_region(matrix, edge, usable)
    if start < 0:
        reason = "no permitted region has a ready instance"
        return Placement(Status.UNREACHABLE, (), None, reason=reason)
    distance = np.nan_to_num(matrix.rtt[matrix.regions.index(edge)], nan=1e9)
    distance[start] = -1.0
    order = [int(c) for c in np.argsort(distance, kind="stable") if usable[c]]
    names = tuple(matrix.regions[c] for c in order)
    hint = env.policy.hint
    is_off = env.policy.mode is Mode.OFF or env.policy.share == 0.0
    if not is_off and hint in names:
        pinned, control = (hint, *(n for n in names if n != hint)), env.policy.least_control
        return Placement(Status.PINNED, pinned, names[0], control, reason=f"pinned to {hint}")
    status = Status.OFF if is_off else Status.ANALYZING
    missing = f"needs {MIN_REQUESTS} more requests from {edge}"
    return Placement(status, names, names[0], reason="no request seen yet", missing=missing)
