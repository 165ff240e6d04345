"""One client's incremental ADS stream as a state machine: requests in, responses out.

It knows names and versions, and neither protobuf nor gRPC. The state that a client should have is
offered as a whole; the session sends what the client lacks, in an order in which nothing that is in
use ever refers to something that is not there (*make before break*): clusters and endpoints, then
listeners and routes, and only when the new routes are in use are old clusters taken away.

One response of a type is in flight at a time, so whatever is offered meanwhile is sent as one
difference. A response that is refused (NACK) is sent again resource by resource: those that are
refused alone stay out until they change, the others come through.

Source: the xDS protocol (envoyproxy.io, "xDS REST and gRPC protocol"): incremental xDS, eventual
consistency considerations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from onetrip.errors import LimitError

MAX_NAMES = 100_000
"""Names of one type that a client may subscribe to, or tell that it has."""

MAX_NAME = 2048
"""Characters of such a name: a cluster's holds its project and up to every region."""

MAX_ERROR = 500
"""Characters of a refusal's reason that are kept."""

WILDCARD = "*"
_ABSENT = ""
"""Version noted for a name that the client was told does not exist."""


class Type(Enum):
    """Types of resources, in the order in which they are sent."""

    __hash__ = object.__hash__

    RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


_BY_NAME = (Type.RUNTIME, Type.SECRET, Type.ENDPOINT, Type.ROUTE)
"""Types that are only ever asked for by name."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A named part of the state. `version` is equal exactly where `body` is."""

    name: str
    version: str
    body: Mapping[str, Any]


State = Mapping[Type, Mapping[str, Resource]]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks or confirms.

    Attributes:
        nonce: of the response that is confirmed, or "".
        error: why that response is refused; None accepts it.
        versions: what the client has from an earlier stream; only in the first of a type.
    """

    type: Type
    nonce: str = ""
    error: str | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """A difference for the client; see `Request.nonce`."""

    type: Type
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a client made of a response.

    Attributes:
        names: of the resources it is about.
        error: why it was refused, or None.
        is_final: these will not be sent again before they change.
    """

    type: Type
    names: tuple[str, ...]
    error: str | None = None
    is_final: bool = False


class Session:
    """What one client has, wants, and is being told."""

    def __init__(self) -> None:
        self._state: State = {}
        self._watches: dict[Type, _Watch] = {}
        self._sent = 0

    @property
    def refused(self) -> dict[tuple[Type, str], str]:
        """What the client refused and still lacks: (type, name) to the reason."""
        return {
            (kind, name): watch.reasons.get(name, "")
            for kind, watch in self._watches.items()
            for name, version in watch.refused.items()
            if (found := self._named(kind).get(name)) is not None and found.version == version
        }

    @property
    def is_current(self) -> bool:
        """Tell whether the client has routes, and all that was offered has been accepted."""
        return (
            Type.ROUTE in self._watches
            and not any(
                w.in_flight or w.due(self._named(kind)) or w.lost(self._named(kind))
                for kind, w in self._watches.items()
            )
            and not self.refused
        )

    def offer(self, state: State) -> None:
        """Bring the client to `state` from now on."""
        self._state = state

    def receive(self, request: Request) -> Verdict | None:
        """Take a request; the verdict when it confirms or refuses something.

        Raises:
            LimitError: more names, or longer ones, than are followed.
        """
        names = (*request.subscribe, *request.unsubscribe, *request.versions)
        if any(len(name) > MAX_NAME for name in names):
            longest = max(map(len, names))
            raise LimitError(f"resource name of {longest} characters exceeds limit of {MAX_NAME}")
        watch = self._watches.get(request.type)
        if watch is None:
            watch = self._watches[request.type] = _Watch(dict(request.versions))
            by_name = request.type in _BY_NAME
            watch.is_wildcard = not (request.subscribe or request.nonce or by_name)
        verdict = self._confirm(watch, request) if request.nonce else None
        watch.subscribe(request.subscribe)
        watch.unsubscribe(request.unsubscribe)
        count = max(len(watch.names), len(watch.held))
        if count > MAX_NAMES:
            raise LimitError(f"subscription to {count} resources exceeds limit of {MAX_NAMES}")
        return verdict

    def take(self) -> list[Response]:
        """Return what is to be sent now."""
        found: list[Response] = []
        for kind in Type:
            watch = self._watches.get(kind)
            if watch is None or watch.in_flight is not None:
                continue
            named = self._named(kind)
            changed = watch.due(named) if self._may_change(kind) else []
            changed = watch.next_alone(changed) or changed
            removed = watch.lost(named) if not changed and self._may_remove(kind) else []
            if changed or removed:
                self._sent += 1
                response = Response(kind, str(self._sent), tuple(changed), tuple(removed))
                watch.in_flight = response
                found.append(response)
        return found

    def _named(self, kind: Type) -> Mapping[str, Resource]:
        return self._state.get(kind, {})

    def _confirm(self, watch: _Watch, request: Request) -> Verdict | None:
        response = watch.in_flight
        if response is None or response.nonce != request.nonce:
            return None  # of an earlier response: what is in flight replaces it
        verdict = watch.settle(response, request.error)
        watch.prune(self._named(request.type))
        if request.type is Type.CLUSTER and request.error is None:
            # A cluster that changed warms up anew, and only an answer about its endpoints ends it.
            endpoints = self._watches.get(Type.ENDPOINT)
            if endpoints is not None:
                endpoints.send_again(resource.name for resource in response.resources)
        return verdict

    def _may_change(self, kind: Type) -> bool:
        if kind is Type.ROUTE:
            return self._has(Type.CLUSTER) and self._has(Type.ENDPOINT)
        return kind is not Type.LISTENER or self._has(Type.CLUSTER)

    def _may_remove(self, kind: Type) -> bool:
        if kind is Type.CLUSTER:
            routes = self._watches.get(Type.ROUTE)
            return routes is None or routes.is_at(self._named(Type.ROUTE))
        return True

    def _has(self, kind: Type) -> bool:
        """Tell whether the client has every resource of a type, be it in an older version."""
        watch = self._watches.get(kind)
        if watch is None:
            # Who follows no clusters has them from elsewhere; else endpoints are still to come.
            return Type.CLUSTER not in self._watches or not self._named(kind)
        return all(watch.held.get(name) for name in self._named(kind))


class _Watch:
    """What a client knows of one type."""

    def __init__(self, held: dict[str, str]) -> None:
        self.is_wildcard = False
        self.names: set[str] = set()
        self.held = held
        self.refused: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.in_flight: Response | None = None
        self.alone: list[str] = []
        """Names that were in a refused response, to be sent one by one."""
        self._again: set[str] = set()
        self._unsettled: set[str] = set()

    def subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                self.is_wildcard = True
            elif name in self.names:
                self.send_again([name])
            else:
                self.names.add(name)

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                self.is_wildcard = False
            else:
                for known in (self.names, self._again):
                    known.discard(name)
                for noted in (self.held, self.refused):
                    noted.pop(name, None)

    def send_again(self, names: Iterable[str]) -> None:
        """Send names once more, whatever version of them is held."""
        sent = {r.name for r in self.in_flight.resources} if self.in_flight is not None else set()
        for name in names:
            self._again.add(name)
            self.refused.pop(name, None)
            if name in sent:  # what is confirmed next is not what was asked for now
                self._unsettled.add(name)

    def due(self, named: Mapping[str, Resource]) -> list[Resource]:
        """Return the resources to send."""
        wanted = named if self.is_wildcard else [n for n in sorted(self.names) if n in named]
        found = [named[name] for name in wanted]
        return [r for r in found if self._is_due(r.name, r.version)]

    def _is_due(self, name: str, version: str) -> bool:
        if version == self.refused.get(name):
            return False
        return name in self._again or version != self.held.get(name)

    def next_alone(self, due: list[Resource]) -> list[Resource]:
        """Return the one of `due` that is to be sent alone now, if there is one."""
        waiting = {resource.name: resource for resource in due}
        self.alone = [name for name in self.alone if name in waiting]
        return [waiting[self.alone[0]]] if self.alone else []

    def lost(self, named: Mapping[str, Resource]) -> list[str]:
        """Return the names to take back, and those that the client waits for in vain.

        What a client asked for by name, as endpoints, it drops itself with what refers to it.
        """
        known = self.held if self.is_wildcard else self.names - self.held.keys()
        return sorted(name for name in known if name not in named)

    def is_at(self, named: Mapping[str, Resource]) -> bool:
        """Tell whether exactly these are in use, as far as they are wanted."""
        return self.in_flight is None and all(
            name in named and version in (named[name].version, _ABSENT)
            for name, version in self.held.items()
        )

    def settle(self, response: Response, error: str | None) -> Verdict:
        self.in_flight = None
        names = tuple(r.name for r in response.resources)
        for name in response.removed:
            self.held.pop(name, None)
            if name in self.names:
                self.held[name] = _ABSENT
        if error is None:
            for resource in response.resources:
                self.held[resource.name] = resource.version
                self.refused.pop(resource.name, None)
            self._again.difference_update(set(names) - self._unsettled)
            self._done(names)
            return Verdict(response.type, names or response.removed)
        is_final = len(names) < 2
        if is_final:
            for resource in response.resources:
                self.refused[resource.name] = resource.version
                self.reasons[resource.name] = error[:MAX_ERROR]
            self._done(names)
        else:
            self.alone = list(names)
        return Verdict(response.type, names or response.removed, error[:MAX_ERROR], is_final)

    def prune(self, named: Mapping[str, Resource]) -> None:
        """Forget what no longer exists."""
        self._unsettled.clear()
        for name in [n for n in self.refused if n not in named]:
            del self.refused[name]

    def _done(self, names: Iterable[str]) -> None:
        finished = set(names)
        self.alone = [name for name in self.alone if name not in finished]
