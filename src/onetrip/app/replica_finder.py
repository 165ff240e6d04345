"""Replicas that a primary tells of, taken in where their address is in a declared network.

What a database says is never dialled unless the configuration names the network: an account of
one database must not choose what a node connects to. Names are made of what the replica calls
itself, so that every node of a cluster gives it the same one.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from onetrip.model.catalog import Backend
from onetrip.model.replica import Replica
from onetrip.model.topology import Endpoint, RegionId, is_id
from onetrip.probe.replication_base import SeenReplica

MOST_REPLICAS = 32
"""Replicas of a backend, declared ones among them."""

KEPT = 600.0
"""Time after which a replica that its primary does not see is forgotten, s."""

_UNNAMED = frozenset({"", "walreceiver"})
"""What a replica calls itself when nobody named it."""


@dataclass(slots=True)
class _Found:
    replica: Replica
    seen_at: float


class ReplicaFinder:
    """The replicas that were found, by backend."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, _Found]] = {}

    def keep(self, backends: Collection[str]) -> None:
        """Forget those of other backends."""
        self._found = {name: each for name, each in self._found.items() if name in backends}

    def has_found(self, backend: str, endpoint: str) -> bool:
        """Tell whether an endpoint was found and not declared."""
        return endpoint in self._found.get(backend, {})

    def extend(self, backend: Backend) -> Backend:
        """Return a declared backend with what was found beside it."""
        if backend.replication is None or not backend.replication.discover:
            return backend
        taken = {str(endpoint) for endpoint in backend.addresses.values()}
        names = set(backend.endpoints)
        more = [
            each.replica
            for name, each in sorted(self._found.get(backend.name, {}).items())
            if str(each.replica.endpoint) not in taken and name not in names
        ]
        room = MOST_REPLICAS - len(backend.replicas)
        return replace(backend, replicas=(*backend.replicas, *more[:room]))

    def note(
        self, backend: Backend, seen: Sequence[SeenReplica], now: float
    ) -> list[tuple[str, bool]]:
        """Take in what a primary sees; give the names that are new (True) or gone (False)."""
        known = self._found.setdefault(backend.name, {})
        declared = {str(endpoint) for endpoint in backend.addresses.values()}
        declared -= {str(each.replica.endpoint) for each in known.values()}
        changes: list[tuple[str, bool]] = []
        for replica in _replicas(backend, seen):
            if str(replica.endpoint) in declared:
                continue
            before = known.get(replica.name)
            if before is None and len(known) >= MOST_REPLICAS:
                continue
            if before is None or before.replica != replica:
                changes.append((replica.name, True))
            known[replica.name] = _Found(replica, now)
        for name in [name for name, each in known.items() if now - each.seen_at > KEPT]:
            del known[name]
            changes.append((name, False))
        return changes


def _replicas(backend: Backend, seen: Sequence[SeenReplica]) -> Iterator[Replica]:
    """Give what was seen inside the networks, each with a name of its own."""
    access = backend.replication
    assert access is not None
    named = Counter(each.name for each in set(seen))
    for each in sorted(set(seen)):
        region = _region(each.host, access.discover)
        if region is None:
            continue
        # A password that is sent over TLS to the primary goes nowhere in clear.
        tls_name = None if backend.endpoint.tls_name is None else each.host
        endpoint = Endpoint(each.host, each.port or backend.endpoint.port, tls_name)
        name = each.name.lower().replace("_", "-")
        if each.name in _UNNAMED or named[each.name] > 1 or not is_id(name):
            name = re.sub(r"[^0-9a-f]+", "-", f"{each.host}-{endpoint.port}").strip("-")[-32:]
        yield Replica(f"{backend.name}/{name.strip('-')}", endpoint, region)


def _region(host: str, networks: Sequence[tuple[RegionId, tuple[str, ...]]]) -> RegionId | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None  # a name could lead anywhere
    for region, texts in networks:
        if any(address in ipaddress.ip_network(text) for text in texts):
            return region
    return None
