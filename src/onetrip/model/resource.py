"""What is declared at run time and shared by every node of a cluster: one row for each thing.

A row is the newest statement about one thing, whatever its kind; `release/registry` merges rows,
`release/records` knows what their bodies mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from onetrip.model.topology import RegionId


class ResourceKind(Enum):
    """What a row is about."""

    PROJECT = "project"
    DEPLOYMENT = "deployment"
    CHECK = "check"
    """Whether a deployment can serve in one region."""
    RELEASE = "release"
    """Which deployment serves an environment."""
    BINDING = "binding"
    DOMAIN = "domain"


class ResourceKey(NamedTuple):
    """Names one thing; `project` is "" for domains, which are claimed in the whole cluster."""

    kind: ResourceKind
    project: str
    name: str


@dataclass(frozen=True, slots=True)
class Resource:
    """The newest statement about one thing.

    Attributes:
        version: grows with each statement about it; with `origin` it orders them.
        origin: region whose node took the statement.
        at: when, Unix time of that node, s; shown to people, never compared between nodes.
        body: JSON; empty when the thing is gone.
    """

    key: ResourceKey
    version: int
    origin: RegionId
    at: float
    body: bytes = b""

    @property
    def is_gone(self) -> bool:
        """Tell whether the thing was deleted."""
        return not self.body

    @property
    def order(self) -> tuple[int, str, bytes, float]:
        """Total order of the statements about one thing; the greatest one counts."""
        return (self.version, self.origin, self.body, self.at)
