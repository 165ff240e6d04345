"""Which RTTs that peers claim cannot be true, so that one node that lies attracts no traffic.

A node trusts what it measured itself; of the others at most one is taken to be wrong about what it
says. Each claim is held against what does not come from the claimer:

* the other end's claim of the same pair: an RTT is one time, whoever takes it;
* triangles. For three places no RTT is longer than the two others together, but for detours. A
  third region that measured both other sides is a *witness*; it speaks against the claim that it
  finds too short by `FACTOR` and `SLACK`;
* the speed of light in fibre, where positions are configured and this node's own RTTs do not
  contradict them;
* network coordinates (`coordinates`), as one more witness for a pair that one end alone measured.

One witness may be the liar, so it takes two, and `SHARE` of all. This node's own measurement counts
as two: it can be a detour, but no lie. Where the witnesses contradict each other as well, nobody is
accused: the backend is then answered in several places (`anycast`).

A claim to a backend is only ever too *short*: one that is too long turns traffic away from the
claimer, which a node may do anyway (`onetrip drain`), and a real detour looks just the same.

False alarms (`tests/unit/estimate/test_estimate_plausibility` counts them in the real matrices of
`tests/data`, every pair an honest claim): none in Azure's 12 regions, at most 0.04 % of the claims
in clusters of 3 to 40 out of 48 Azure or 60 multi-cloud regions, at most 0.13 % between cities over
the public Internet. Of claims of 1 ms to a backend that is 50 ms away and more, over half are found
in clusters of 3, and nine in ten in clusters of 5 to 12; by its positions and RTTs what is left
could be true. Both directions of a pair agreed in all 1,199 pairs of Azure's table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from onetrip.estimate.anycast import light_bound
from onetrip.estimate.coordinates import Bools, Coordinates, Floats
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId

FACTOR = 1.5
"""How many times longer than the two other sides together the third one may be: real detours."""

SLACK = 0.010
"""What a side may be longer besides, s: probes, and ways within a region."""

SHARE = 0.25
"""Least share of the witnesses that must speak against a claim. Between 236 cities, a quarter spoke
against an honest one at most."""

QUORUM = 2
"""Least number of voices against a claim; one liar has one."""

CONTRADICTION = 0.2
"""Share of contradictions between others from which on they are not one region's fault."""

LIGHT_MARGIN = 0.9
"""Positions are those of towns, not of racks (as `anycast.MARGIN`)."""

Position = tuple[float, float]


class Rejection(NamedTuple):
    """A claim that is not used. Times in s.

    Attributes:
        claimed: what `region` told.
        bound: the least (or for a pair of regions also the most) that its witnesses allow.
        fallback: used instead; NaN where nothing better is known.
        is_proven: its region is to blame; else two regions contradict each other.
    """

    region: RegionId
    target: Target
    claimed: float
    bound: float
    fallback: float
    is_proven: bool = True


def judge(
    rows: Mapping[RegionId, Mapping[Target, RttEstimate]],
    own: RegionId,
    regions: Sequence[RegionId],
    backends: Sequence[str],
    positions: Sequence[Position | None],
    coordinates: Coordinates | None = None,
) -> list[Rejection]:
    """Return the claims that cannot be true.

    Args:
        rows: what each region told; the row of `own` is not judged.
        regions: R regions; claims of others are left out.
        positions: (latitude, longitude) of each region in degrees, or None.
        coordinates: fitted to the same regions, or None.
    """
    if own not in regions or len(regions) < 2:
        return []
    me = regions.index(own)
    peers = _claims(rows, regions, [Target(TargetKind.PEER, r) for r in regions])
    np.fill_diagonal(peers, 0.0)
    data = _claims(rows, regions, [Target(TargetKind.BACKEND, b) for b in backends])
    court = _Court(peers, me, _floor(positions, peers, me))
    by_pair = [*court.contradictions(), *court.one_sided(coordinates)]
    found = [(Target(TargetKind.PEER, regions[f.about]), f) for f in by_pair]
    for column, name in enumerate(backends):
        target = Target(TargetKind.BACKEND, name)
        found += [(target, f) for f in court.too_short(data[:, column], column)]
    return [
        Rejection(regions[f.claimer], target, f.claimed, f.bound, f.fallback, f.is_proven)
        for target, f in found
    ]


def _claims(
    rows: Mapping[RegionId, Mapping[Target, RttEstimate]],
    regions: Sequence[RegionId],
    targets: Sequence[Target],
) -> Floats:
    # Only what is fresh can start a move, and only what is fresh is evidence.
    out = np.full((len(regions), len(targets)), math.nan)
    columns = {target: column for column, target in enumerate(targets)}
    for row, region in enumerate(regions):
        for target, estimate in rows.get(region, {}).items():
            column = columns.get(target)
            if column is not None and estimate.state is EstimateState.FRESH:
                out[row, column] = estimate.rtt
    return out


def _floor(positions: Sequence[Position | None], peers: Floats, me: int) -> Floats:
    """Return the least possible RTT between regions, s, shape (R, R); NaN where unknown."""
    floor = LIGHT_MARGIN * light_bound(positions)
    # A position that this node's own RTT contradicts is a mistake in the configuration.
    is_wrong = peers[me] < floor[me]
    floor[is_wrong, :] = floor[:, is_wrong] = math.nan
    return floor


class _Finding(NamedTuple):
    """A `Rejection` by indices."""

    claimer: int
    about: int
    claimed: float
    bound: float
    fallback: float
    is_proven: bool = True


class _Court:
    """Judges by what the regions told about each other.

    Args:
        peers: claims of each region (row) about the others, s, NaN unknown, shape (R, R).
        me: this node's row; true.
        floor: least possible RTTs, s, shape (R, R).
    """

    def __init__(self, peers: Floats, me: int, floor: Floats) -> None:
        self._peers = peers
        self._me = me
        self._floor = floor
        self._size = peers.shape[0]
        self._known = ~np.isnan(peers)
        self._discredited = np.zeros(self._size, dtype=bool)
        self._rtt = np.where(self._known & self._known.T, (peers + peers.T) / 2, peers)
        """What both ends told, or the row's own claim; settled by `contradictions`."""

    def contradictions(self) -> list[_Finding]:
        """Hold both ends' claims of a pair against each other."""
        peers, me = self._peers, self._me
        both = self._known & self._known.T
        low, high = np.minimum(peers, peers.T), np.maximum(peers, peers.T)
        with np.errstate(invalid="ignore"):
            differ = both & (high > FACTOR * low + SLACK)
        votes = differ.sum(axis=1) + differ[:, me]
        others = differ.sum() / 2 - differ.sum(axis=1)
        guilty = _enough(votes, both.sum(axis=1) - 1) & _alone(others, differ.sum() / 2)
        guilty[me] = False
        self._discredited |= guilty
        found: list[_Finding] = []
        for i, j in np.argwhere(differ):
            # Of two that nothing tells apart the longer one counts: it attracts nobody.
            if i == me or guilty[j] or (not guilty[i] and j != me and peers[i, j] == high[i, j]):
                continue
            is_proven = bool(guilty[i])
            told = float(peers[j, i])
            found.append(_Finding(int(i), int(j), float(peers[i, j]), told, told, is_proven))
            self._rtt[i, j] = self._rtt[j, i] = peers[j, i]
        self._rtt[me] = np.where(self._known[me], peers[me], self._rtt[me])
        self._rtt[:, me] = np.where(self._known[me], peers[me], self._rtt[:, me])
        return found

    def one_sided(self, coordinates: Coordinates | None) -> list[_Finding]:
        """Hold claims of pairs that the other end did not measure against triangles."""
        alone = self._known & ~self._known.T
        alone[self._me] = False
        if not alone.any():
            return []
        claimed = np.where(alone, self._peers, math.nan)
        votes, count, bound = np.zeros_like(claimed), np.zeros_like(claimed), claimed * math.nan
        for witness in range(self._size):
            if self._discredited[witness]:
                continue
            legs = self._peers[witness]  # its own claims: nothing here comes from the claimer
            voices = self._voices(legs[:, None], legs[None, :], claimed)
            voices[witness, :] = voices[:, witness] = math.nan
            spoken = np.where(voices == voices, voices > 0, False)
            votes += spoken * (QUORUM if witness == self._me else 1)
            count += ~np.isnan(voices)
            bound = np.where(spoken, np.fmax(bound, voices), bound)
        light = self._floor > claimed + SLACK
        votes += QUORUM * light
        bound = np.where(light, np.fmax(bound, self._floor), bound)
        if coordinates is not None:
            predicted = coordinates.predict()
            votes += (
                np.maximum(predicted, claimed) > 2 * FACTOR * np.minimum(predicted, claimed) + SLACK
            )
        guilty = _enough(votes, count) & alone
        self._rtt[guilty] = math.nan
        return [
            _Finding(int(i), int(j), float(claimed[i, j]), float(bound[i, j]), math.nan)
            for i, j in np.argwhere(guilty)
        ]

    @staticmethod
    def _voices(one: Floats, other: Floats, claimed: Floats) -> Floats:
        """Return the bound that each claim breaks, s; 0 where it breaks none, NaN unknown."""
        least = (np.maximum(one - FACTOR * other, other - FACTOR * one) - SLACK) / FACTOR
        most = FACTOR * (one + other) + SLACK
        broken = np.where(claimed < least, least, np.where(claimed > most, most, 0.0))
        return np.where(np.isnan(least) | np.isnan(claimed), math.nan, broken)

    def too_short(self, claims: Floats, backend: int) -> list[_Finding]:
        """Return who claims too short an RTT to one backend.

        Args:
            claims: of each region, s, NaN unknown, shape (R,).
            backend: number of the backend.
        """
        me, rtt = self._me, self._rtt
        told = np.where(self._discredited, math.nan, claims)[:, None]  # of the witnesses
        with np.errstate(invalid="ignore"):
            # Both say that it is near, and they are far from each other.
            least = np.fmax((rtt - SLACK) / FACTOR - told, self._floor - told - SLACK)
            # It is far from the witness, which is near the claimer.
            beyond = (told - SLACK) / FACTOR - rtt
            apart, behind = claims[None, :] < least, claims[None, :] < beyond
        accused = apart | behind
        np.fill_diagonal(accused, False)
        accused[:, me] = False
        votes = accused.sum(axis=0) + behind[me]
        edges = accused | accused.T
        total = edges.sum() / 2
        seen = ~np.isnan(told) & ~np.isnan(claims)[None, :] & ~np.isnan(rtt)
        guilty = _enough(votes, seen.sum(axis=0) - 1) & _alone(total - edges.sum(axis=1), total)
        guilty[me] = False
        bound = np.where(accused, np.fmax(least, beyond), -math.inf).max(axis=0)
        return [
            _Finding(
                int(i), backend, float(claims[i]), float(bound[i]), self._around(int(i), claims)
            )
            for i in np.flatnonzero(guilty)
        ]

    def _around(self, region: int, claims: Floats) -> float:
        """Return the RTT from a region to a backend by way of another one, s; of this, if known.

        It is an upper bound (but for detours), so it makes no region look better than it is.
        """
        ways = self._rtt[:, region] + claims
        if not math.isnan(ways[self._me]):
            return float(ways[self._me])
        ways[region] = math.nan
        return float(np.nanmin(ways)) if not np.isnan(ways).all() else math.nan


def _enough(votes: np.ndarray, witnesses: np.ndarray) -> Bools:
    return np.asarray(votes >= np.maximum(QUORUM, np.ceil(SHARE * witnesses)))


def _alone(others: np.ndarray, total: float) -> Bools:
    """Tell for each region whether all contradictions are its own, but for a few."""
    return np.asarray(others < max(CONTRADICTION * total, 1e-9))
