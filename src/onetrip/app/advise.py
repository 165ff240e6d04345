"""Advise mode: what remains of the settings and the routes of a node without traffic.

Such a node measures, scores and tells like any other, so that one can know what the toggle would
save before a single request passes onetrip. It opens no listener for requests, and what its rules
would decide is told and not done.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from onetrip.app.calls import declared_trips
from onetrip.model.catalog import Catalog, Environment, Mode, RouteRule
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId, Topology

if TYPE_CHECKING:
    from onetrip.app.config import Settings
    from onetrip.place.defaults import EnvironmentInput
    from onetrip.place.placer import RouteInput

SPAN = 3600.0
"""A declared rate counts as the requests of so many seconds, wherever requests are a weight."""


def without_traffic(settings: Settings, is_told: bool) -> Settings:
    """Return the settings of a node that takes no traffic.

    It orders no certificates, since it could not answer for the names. Its peers need no `proxy`:
    RTTs between regions are taken where the nodes fetch each other's reports.

    Args:
        is_told: the command line says so, whatever the file says.
    """
    regions = {id: replace(each, proxy=each.peer) for id, each in settings.topology.regions.items()}
    return replace(
        settings,
        tls_listen=None,
        forward_listen=None,
        https_port=None,
        acme=None,
        workers=1,
        envoy=None,
        topology=Topology(regions),
        mode="advise",
        is_told_to_advise=is_told,
    )


def switched_off(environments: Iterable[EnvironmentInput]) -> list[EnvironmentInput]:
    """Return environments as they are without the toggle: nothing moves that is not there."""
    return [replace(e, policy=replace(e.policy, mode=Mode.OFF)) for e in environments]


def declared_inputs(
    catalog: Catalog, edge: RegionId, seen: Container[RouteKey]
) -> list[RouteInput]:
    """Return the declared routes of an edge that no request was seen of, as the placer's inputs.

    Args:
        seen: routes that are known from requests.
    """
    return [
        _input(environment, rule, key, rate)
        for environment in catalog.environments()
        for rule in environment.rules
        for key, rate in _keys(environment, rule, edge)
        if key not in seen
    ]


def _keys(
    environment: Environment, rule: RouteRule, edge: RegionId
) -> Iterable[tuple[RouteKey, float]]:
    """Return the keys that a rule declares requests of, with their rate, a second."""
    rates = {
        MethodClass.READ: rule.rates.get(edge, 0.0),
        MethodClass.WRITE: rule.write_rates.get(edge, 0.0),
    }
    if not rule.rates and not rule.write_rates and rule.round_trips is not None:
        # Nobody said how often and how: it is told as a read, and weighs as little as it can.
        return [(RouteKey(environment.id, rule.pattern, MethodClass.READ), 0.0)]
    return [
        (RouteKey(environment.id, rule.pattern, method), rate)
        for method, rate in rates.items()
        if rate
    ]


def _input(environment: Environment, rule: RouteRule, key: RouteKey, rate: float) -> RouteInput:
    from onetrip.place.placer import RouteInput

    return RouteInput(
        key=key,
        is_local=rule.is_local,
        declared=declared_trips(environment, rule),
        services=(),
        saving=None,
        requests=round(rate * SPAN),
        explored=0,
        upcoming=0.0,
        age=0.0,
        deny=environment.denied(rule),
    )
