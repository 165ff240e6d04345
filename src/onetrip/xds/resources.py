"""What one region's Envoy should have: a plan to named, versioned resources. Pure.

A resource's body is what its protobuf message looks like in JSON; `xds.protobuf` makes messages of
it. Its version is a digest of the body, so a node that starts anew sends an Envoy nothing that it
has already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from onetrip.xds.clusters import cluster, endpoints, needs_names
from onetrip.xds.listeners import listeners, runtime, secrets
from onetrip.xds.names import REDIRECT, ROUTES
from onetrip.xds.routes import RouteTable
from onetrip.xds.session import Resource, State, Type
from onetrip.xds.terms import Plan

Body = dict[str, Any]

DIGEST_SIZE = 16
"""Hexadecimal digits of a version."""


def state_of(plan: Plan) -> State:
    """Return every resource of a plan."""
    table = RouteTable(plan)
    routes = {ROUTES: table.configuration()}
    if (port := plan.terms.redirect_port) is not None:
        routes[REDIRECT] = table.redirect(port)
    clusters: dict[str, Body] = {}
    assignments: dict[str, Body] = {}
    for name, (environment, order) in table.orders.items():
        clusters[name] = cluster(plan, environment, order)
        if not needs_names(environment):
            assignments[name] = endpoints(plan, environment, order)
    return {
        Type.RUNTIME: _versioned(runtime(plan)),
        Type.SECRET: _versioned(secrets(plan)),
        Type.CLUSTER: _versioned(clusters),
        Type.ENDPOINT: _versioned(assignments),
        Type.LISTENER: _versioned(listeners(plan)),
        Type.ROUTE: _versioned(routes),
    }


def _versioned(bodies: Mapping[str, Body]) -> dict[str, Resource]:
    return {name: Resource(name, _digest(body), body) for name, body in bodies.items()}


def _digest(body: Body) -> str:
    text = msgspec.json.encode(body, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:DIGEST_SIZE]
