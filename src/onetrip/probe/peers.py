"""Which peers a node probes, where there are too many to probe them all: a plan without a clock.

A fleet of R regions that all probe each other sends R² probes an interval. Here each node probes
`most` peers, half of them the nearest, half of them anywhere: the near ones are the likeliest to be
used, the far ones pin down where the node is (Dabek et al., SIGCOMM 2004, section 4.3 found that
coordinates need both). To these come a *shortlist*: the peers that its placements use, and those
that would be used if their estimated RTT were true (`place/guesses`). What is chosen stays, but for
one near and one far peer a review, so that every region is measured from everywhere in the end.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, zip_longest
from random import Random

from onetrip.model.topology import RegionId

ALL_UP_TO = 30
"""Other regions up to which every one is probed: 30 probes each 5 s are nothing."""

MOST_PEERS = 16
"""Near and far peers of a node beyond that. Of the 236-city matrix, predictions from 16 are within
9 % for half of the pairs; the best of 16 measured regions and 8 guesses costs 0.3 % of latency."""

LEAST_PEERS = 8
"""Fewest near and far peers: coordinates in three dimensions with a height need five."""

SHORTLIST = 32
"""Most peers on the shortlist."""

PINNED = 16
"""Peers in use that never leave the shortlist, those with most requests; the others take turns."""

REVIEW = 60.0
"""Seconds between two reviews, each of which replaces one near and one far peer at most."""

TURN = 60.0
"""Seconds that a peer on the shortlist has at least while others wait; those that nobody names any
more stay as long where there is room, because whoever named them may do so again."""

KEPT = 600.0
"""Seconds for which the last RTT to a peer that is not probed any more is believed rather than an
estimate of it."""

NEARER = 0.9
"""A peer replaces a near one when it is nearer by this ratio: less is noise of an estimate."""


def limit_of(wanted: int | None, others: int) -> int | None:
    """Return how many peers to choose of `others`; None probes all.

    Args:
        wanted: `probe.peers`, or None to choose by the size of the cluster.
    """
    if wanted is None:
        wanted = ALL_UP_TO if others <= ALL_UP_TO else MOST_PEERS
    return wanted if others > wanted else None


class PeerPlan:
    """The peers of one node.

    Args:
        most: near and far peers together.

    Attributes:
        near: the nearest by what is known of distances.
        far: any others, the one that has been here longest first.
    """

    def __init__(self, most: int, rng: Random) -> None:
        self._most_near, self._most_far = most // 2, most - most // 2
        self._rng = rng
        self.near: list[RegionId] = []
        self.far: list[RegionId] = []
        self._listed_at: dict[RegionId, float] = {}
        self._named_at: dict[RegionId, float] = {}
        self._last_at: dict[RegionId, float] = {}
        self._turns: dict[RegionId, int] = {}
        self._turn = 0
        self._is_placed = False
        self._reviewed_at = -math.inf

    @property
    def shortlist(self) -> Collection[RegionId]:
        """Return the peers that are probed because placements use or may use them."""
        return self._listed_at.keys()

    @property
    def chosen(self) -> frozenset[RegionId]:
        """Return all peers to probe: at most `most` + `SHORTLIST`."""
        return frozenset(chain(self.near, self.far, self._listed_at))

    def follow(
        self,
        now: float,
        distances: Mapping[RegionId, float],
        *,
        silent: Collection[RegionId] = (),
        used: Sequence[RegionId] = (),
        guesses: Sequence[RegionId] = (),
    ) -> None:
        """Choose anew where that is due.

        Args:
            distances: RTT to every other region, measured or estimated, s; NaN unknown.
            silent: regions whose node tells nothing any more: they are replaced.
            used, guesses: for the shortlist, most important first; others are passed over.
        """
        self.near = [r for r in self.near if r in distances]
        self.far = [r for r in self.far if r in distances]
        is_due = now - self._reviewed_at >= REVIEW
        self._follow_near(distances, silent, is_due)
        self._follow_far(distances, silent, is_due)
        if is_due:
            self._reviewed_at = now
            self._last_at = {r: at for r, at in self._last_at.items() if r in distances}
        free = distances.keys() - {*self.near, *self.far}
        self._listed_at = {r: at for r, at in self._listed_at.items() if r in free}
        self._follow_shortlist(
            now,
            [r for r in dict.fromkeys(used) if r in free],
            [r for r in dict.fromkeys(guesses) if r in free],
        )

    def _follow_near(
        self, distances: Mapping[RegionId, float], silent: Collection[RegionId], is_due: bool
    ) -> None:
        if len(self.near) == self._most_near and not is_due:
            return
        known = [r for r, rtt in distances.items() if r not in silent and not math.isnan(rtt)]
        if not self._is_placed and len(known) <= max(len(distances) / 2, 2 * self._most_near):
            return  # until the node knows where it is, nearest means little
        self._is_placed = True
        outside = sorted((r for r in known if r not in self.near), key=distances.__getitem__)
        for member in [r for r in self.near if r in silent][: len(outside) if is_due else 0]:
            self.near[self.near.index(member)] = outside.pop(0)
        while len(self.near) < self._most_near and outside:
            self.near.append(outside.pop(0))
        if is_due and outside and self.near:
            last = max(self.near, key=lambda r: _or_far(distances[r]))
            if distances[outside[0]] < NEARER * _or_far(distances[last]):
                self.near[self.near.index(last)] = outside[0]
        self.far = [r for r in self.far if r not in self.near]

    def _follow_far(
        self, distances: Mapping[RegionId, float], silent: Collection[RegionId], is_due: bool
    ) -> None:
        # Before the node knows where it is, far peers stand in for the near ones.
        most = self._most_near + self._most_far - len(self.near)
        del self.far[: max(0, len(self.far) - most)]
        if len(self.far) == most and not is_due:
            return
        # Those first whose turn is longest ago.
        taken = {*silent, *self.near, *self.far}
        waiting = sorted(region for region in distances if region not in taken)
        self._rng.shuffle(waiting)
        waiting.sort(key=lambda region: self._turns.get(region, 0))
        if is_due and len(self.far) == most and waiting:
            gone = [r for r in self.far if r in silent][: len(waiting)] or self.far[:1]
            self.far = [r for r in self.far if r not in gone]
        for region in waiting[: most - len(self.far)]:
            self._turn += 1
            self._turns[region] = self._turn
            self.far.append(region)
        self._turns = {r: turn for r, turn in self._turns.items() if r in distances}

    def _follow_shortlist(
        self, now: float, used: Sequence[RegionId], guesses: Sequence[RegionId]
    ) -> None:
        pinned = used[:PINNED]
        pairs = zip_longest(guesses, used[PINNED:])
        turning = [r for r in dict.fromkeys(chain(*pairs)) if r is not None and r not in pinned]
        turning.sort(key=lambda region: self._order_of(region, now))
        named = dict.fromkeys((*pinned, *turning), now)
        recent = {r: at for r, at in self._named_at.items() if now - at < TURN} | named
        lingering = [r for r in self._listed_at if r in recent and r not in named]
        order = (*pinned, *turning, *lingering)[:SHORTLIST]
        self._listed_at = {region: self._listed_at.get(region, now) for region in order}
        self._named_at = {region: recent[region] for region in order}
        self._last_at |= dict.fromkeys(order, now)

    def _order_of(self, region: RegionId, now: float) -> tuple[bool, float]:
        # Whose turn it is comes first, then those first whose last one is longest ago.
        is_over = now - self._listed_at.get(region, -math.inf) >= TURN
        return is_over, self._last_at.get(region, -math.inf) if is_over else 0.0


def _or_far(distance: float) -> float:
    return math.inf if math.isnan(distance) else distance
