"""A client of the incremental ADS in memory: takes what a session sends, and answers as Envoy does.

A resource whose body says `poison` makes it refuse the whole response. It notes every moment at
which its routes refer to what it does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onetrip.xds.session import Request, Resource, Response, Session, State, Type, Verdict

FIRST = (Type.CLUSTER, Type.LISTENER)
"""What Envoy asks for by itself; the rest is what these refer to."""


def resource(name: str, version: str, **body: Any) -> Resource:
    """Return a resource."""
    return Resource(name, version, body)


def state(
    clusters: Mapping[str, str], routes: Iterable[str], version: str = "1", poison: str = ""
) -> State:
    """Return a state with clusters (by version), their endpoints, and one route to some of them."""
    bodies = {n: {"poison": True} if n == poison else {} for n in clusters}
    route = resource("routes", f"{version} {sorted(routes)}", clusters=sorted(routes))
    return {
        Type.CLUSTER: {n: Resource(n, v, bodies[n]) for n, v in clusters.items()},
        Type.ENDPOINT: {n: resource(n, v) for n, v in clusters.items()},
        Type.LISTENER: {"clients": resource("clients", "1", routes=["routes"])},
        Type.ROUTE: {"routes": route},
    }


class XdsClient:
    """One client.

    Attributes:
        has: what it accepted, by type and name.
        broken: what its routes missed, at any time.
        verdicts: what the session made of its answers.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.has: dict[Type, dict[str, Resource]] = {kind: {} for kind in Type}
        self.broken: list[str] = []
        self.verdicts: list[Verdict] = []
        self.responses: list[Response] = []
        self._wanted: dict[Type, set[str]] = {kind: set() for kind in Type}

    def connect(self, session: Session | None = None) -> None:
        """Ask for what Envoy asks for first; with a new session, as after a lost connection."""
        self.session = session or self.session
        self._wanted = {kind: set() for kind in Type}
        for kind in FIRST:
            held = {r.name: r.version for r in self.has[kind].values()}
            self._send(Request(kind, versions=held))
        self._want(Type.ENDPOINT, *self.has[Type.CLUSTER])
        if self.has[Type.LISTENER]:
            self._want(Type.ROUTE, "routes")

    def settle(self, rounds: int = 1000) -> None:
        """Take and answer everything until nothing more comes."""
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"no end after {rounds} rounds")

    def turn(self) -> bool:
        """Take and answer what is there now; tell whether there was anything."""
        responses = self.session.take()
        for response in responses:
            self.answer(response)
        return bool(responses)

    def answer(self, response: Response) -> None:
        """Take one response: accept it, or refuse it whole."""
        self.responses.append(response)
        kind, names = response.type, [r.name for r in response.resources]
        assert len(names) == len(set(names))
        if any(r.body.get("poison") for r in response.resources):
            self._send(Request(kind, response.nonce, error="poison"))
            return
        for each in response.resources:
            self.has[kind][each.name] = each
        for name in response.removed:
            self.has[kind].pop(name, None)
        self._look()
        self._send(Request(kind, response.nonce))
        if kind is Type.CLUSTER:
            self._want(Type.ENDPOINT, *names)
            for name in response.removed:
                self._drop(Type.ENDPOINT, name)
        if kind is Type.LISTENER:
            self._want(Type.ROUTE, "routes")

    def _look(self) -> None:
        for route in self.has[Type.ROUTE].values():
            for name in route.body["clusters"]:
                for kind in (Type.CLUSTER, Type.ENDPOINT):
                    if name not in self.has[kind]:
                        self.broken.append(f"{kind.name} {name} of {route.version}")

    def _want(self, kind: Type, *names: str) -> None:
        new = tuple(name for name in names if name not in self._wanted[kind])
        if new:
            self._wanted[kind].update(new)
            held = {r.name: r.version for r in self.has[kind].values()}
            self._send(Request(kind, subscribe=new, versions=held))

    def _drop(self, kind: Type, name: str) -> None:
        self._wanted[kind].discard(name)
        self.has[kind].pop(name, None)
        self._send(Request(kind, unsubscribe=(name,)))

    def _send(self, request: Request) -> None:
        verdict = self.session.receive(request)
        if verdict is not None:
            self.verdicts.append(verdict)
