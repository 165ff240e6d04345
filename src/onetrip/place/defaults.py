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
    return int(np.argmin(np.where(usable, _default_distances(matrix, row), np.inf)))


def unseen_placements(
    matrix: RttMatrix, edge: RegionId, environments: Iterable[EnvironmentInput]
) -> dict[EnvironmentId, Placement]:
    """Return the placement of each environment's routes that have not been seen.

    It is the default region, then the nearest. Thousands of environments have the same few sets of
    regions: each set is looked at once, and the distances are for all of them.
    """
    row = matrix.regions.index(edge)
    distances: list[float] = _distances(matrix, row).tolist()
    defaults: list[float] = _default_distances(matrix, row).tolist()
    ranks = {r: (distances[n], n) for n, r in enumerate(matrix.regions)}
    ranks_as_default = {r: (defaults[n], n) for n, r in enumerate(matrix.regions)}
    known: dict[tuple[object, ...], Placement] = {}
    found: dict[EnvironmentId, Placement] = {}
    for env in environments:
        policy = env.policy
        serving = frozenset([r for r, ok in env.instances.items() if ok and policy.permits(r)])
        key = (serving, policy.mode, policy.hint, policy.share)
        placement = known.get(key)
        if placement is None:
            order = sorted(serving & ranks.keys(), key=ranks.__getitem__)
            if order:
                start = edge if edge in order else min(order, key=ranks_as_default.__getitem__)
                order = [start, *(region for region in order if region != start)]
            placement = known[key] = _unseen(edge, policy, tuple(order))
        found[env.id] = placement
    return found


def _unseen(edge: RegionId, policy: Policy, names: tuple[RegionId, ...]) -> Placement:
    if not names:
        reason = "no permitted region has a ready instance"
        return Placement(Status.UNREACHABLE, (), None, reason=reason)
    hint = policy.hint
    is_off = policy.mode is Mode.OFF or policy.share == 0.0
    if not is_off and hint in names:
        pinned, control = (hint, *(n for n in names if n != hint)), policy.least_control
        return Placement(Status.PINNED, pinned, names[0], control, reason=f"pinned to {hint}")
    status = Status.OFF if is_off else Status.ANALYZING
    missing = f"needs {MIN_REQUESTS} more requests from {edge}"
    return Placement(status, names, names[0], reason="no request seen yet", missing=missing)


def _distances(matrix: RttMatrix, row: int) -> np.ndarray:
    return np.asarray(np.nan_to_num(matrix.rtt[row], nan=1e9))


def _default_distances(matrix: RttMatrix, row: int) -> np.ndarray:
    return np.asarray(_distances(matrix, row) + np.where(matrix.is_predicted[row], 1e6, 0))
