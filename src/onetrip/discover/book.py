"""What is known of every source of addresses: the last answers, and what an answer changes.

Pure. Addresses come from strangers' servers, so an answer is bounded in number and, where the
configuration says so, to networks; an answer without a single address is taken for a mistake and
changes nothing, because no instance at all is worse than one that may be gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onetrip.errors import OnetripError
from onetrip.model.discovery import Source
from onetrip.model.topology import Endpoint
from onetrip.release.terms import Allowed

MOST_NAMED = 3
"""Addresses that a change names; of more it tells the number."""


class DiscoveryError(OnetripError):
    """A source did not answer, or not as one."""


@dataclass(frozen=True, slots=True)
class DiscoveryTerms:
    """What is taken from sources, and how often they are asked. Times in s.

    Attributes:
        least, most: bounds of the time between two questions, whatever the answer's TTL.
        max_instances: taken of one source.
        allow: where instances may be; empty allows everything.
        servers: of DNS, (address, port); empty asks those of the system.
    """

    least: float = 1.0
    most: float = 30.0
    max_instances: int = 256
    allow: tuple[Allowed, ...] = ()
    servers: tuple[tuple[str, int], ...] = ()

    def permits(self, endpoint: Endpoint) -> bool:
        """Tell whether an instance may be at `endpoint`."""
        return not self.allow or any(allowed.covers(endpoint) for allowed in self.allow)


@dataclass(frozen=True, slots=True)
class KubernetesAccess:
    """Where the API of a Kubernetes cluster is, and how to speak to it.

    Attributes:
        url: without a path; "" outside a cluster.
        token_file: of the service account; "" speaks without one.
        ca_file: PEM file of who vouches for the API; "" for the system's authorities.
    """

    url: str
    token_file: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class Change:
    """What an answer changed.

    Attributes:
        refused: how many of its addresses are outside the permitted networks.
        left_out: how many were too many.
    """

    added: tuple[Endpoint, ...] = ()
    removed: tuple[Endpoint, ...] = ()
    refused: int = 0
    left_out: int = 0
    count: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    def __str__(self) -> str:
        """What to tell people, for example "3 instances: + 10.0.0.3:80"."""
        parts = [f"+ {_named(self.added)}"] if self.added else []
        parts += [f"- {_named(self.removed)}"] if self.removed else []
        parts += [f"{self.refused} refused by discovery.allow"] if self.refused else []
        parts += [f"{self.left_out} above discovery.max_instances"] if self.left_out else []
        return f"{self.count} instances: {', '.join(parts)}"


class SourceBook:
    """The last answers of all sources that are followed."""

    def __init__(self) -> None:
        self._known: dict[Source, tuple[Endpoint, ...]] = {}
        self._failing: dict[Source, str] = {}

    def endpoints(self, source: Source) -> tuple[Endpoint, ...]:
        """Return where a source\'s instances are, by its last answer."""
        return self._known.get(source, ())

    @property
    def failing(self) -> Mapping[Source, str]:
        """The sources that did not answer when last asked, with the reason."""
        return self._failing

    def retain(self, sources: Collection[Source]) -> None:
        """Forget every other source."""
        for memory in (self._known, self._failing):
            for source in [s for s in memory if s not in sources]:
                del memory[source]

    def take(self, source: Source, found: Sequence[Endpoint], terms: DiscoveryTerms) -> Change:
        """Take an answer with one address at least, by the terms; return what it changed."""
        before = self._known.get(source, ())
        permitted = [e for e in dict.fromkeys(found) if terms.permits(e)]
        # Those in use go first, so that too long a list does not change with its order.
        order = sorted(permitted, key=lambda e: (e not in before, str(e)))
        kept = tuple(sorted(order[: terms.max_instances], key=str))
        change = Change(
            added=tuple(e for e in kept if e not in before),
            removed=tuple(e for e in before if e not in kept),
            refused=len(set(found)) - len(permitted),
            left_out=len(permitted) - len(kept),
            count=len(kept),
        )
        if kept:
            self._known[source] = kept
            return change
        return Change(refused=change.refused, count=len(before))

    def note_success(self, source: Source) -> bool:
        """Note that a source answered; tell whether it had failed before."""
        return self._failing.pop(source, None) is not None

    def note_failure(self, source: Source, reason: str) -> bool:
        """Note that a source did not answer, or nothing of use; tell whether that is news."""
        is_news = source not in self._failing
        self._failing[source] = reason
        return is_news


def _named(endpoints: Sequence[Endpoint]) -> str:
    if len(endpoints) > MOST_NAMED:
        return str(len(endpoints))
    return ", ".join(map(str, endpoints))
