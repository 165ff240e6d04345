"""What a project promises its clients about reads behind their own writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Carry(Enum):
    """How a client brings its token along."""

    COOKIE = "cookie"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Consistency:
    """A client reads what it wrote, and never an older state than it has seen.

    Attributes:
        keys: of the project's tokens; the first one signs.
        wait: longest wait for a replica at one node, s.
        max_age: how long a token counts, s.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    wait: float = 0.2
    carry: Carry = Carry.COOKIE
    max_age: float = 3600.0


class Freshness(Enum):
    """How a read was kept from showing less than its client has seen."""

    FRESH = "fresh"
    """The endpoint it reads had it already."""
    WAITED = "waited"
    """It was waited for."""
    MOVED = "moved"
    """It runs in the primary's region instead."""
    PRIMARY = "primary"
    """It runs where it was placed and reads the primary."""
    UNSURE = "unsure"
    """A relay that it reads through could not be told."""
