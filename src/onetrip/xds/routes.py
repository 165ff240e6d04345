"""Routes: which requests go where, in which shares, as `proxy.router` and `place.arms` decide.

Hosts become virtual hosts. Within one, environments are tried from the longest path prefix on, and
within an environment its declared patterns, then the route classes that have been learned and
placed, then whatever is left. Requests are shared out by a hash of their id, so that every attempt
of one stays in its arm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from onetrip.errors import Kind
from onetrip.model.catalog import Environment, EnvironmentId, RouteRule
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId
from onetrip.proxy.router import MAX_CLASSES, OTHER, specificity
from onetrip.xds.clusters import seconds
from onetrip.xds.names import METADATA, PLACEMENT_HEADER, REDIRECT, ROUTES, cluster_name, route_name
from onetrip.xds.orders import Share, split
from onetrip.xds.patterns import class_regex, pattern_regex
from onetrip.xds.terms import Plan

Body = dict[str, Any]

_UPGRADES = "(upgrade)"
"""Stands for requests to switch protocols: they go where the environment's default points."""

_REST = "(rest)"
"""Stands for whatever no route of its own is known for."""

_READS = ("GET", "HEAD", "OPTIONS")
_INPUT = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
_LIST = "type.googleapis.com/envoy.config.route.v3.RouteList"
_UPGRADE: Body = {"name": "upgrade", "present_match": True}
_UNSENT = "connect-failure,refused-stream,reset-before-request"
"""What may be tried again whatever was asked: the instance cannot have acted."""

_RETRIES = {MethodClass.READ: f"{_UNSENT},reset", MethodClass.WRITE: _UNSENT}
_HOSTS = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_REGIONS = (
    "type.googleapis.com/"
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
)


class RouteTable:
    """Builds the routes of one plan, and notes which clusters they need.

    Attributes:
        orders: the clusters in use: environment and order of regions.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._learned: dict[EnvironmentId, list[RouteKey]] = {}
        for key in plan.snapshot.routes:
            self._learned.setdefault(key.environment, []).append(key)
        self.orders: dict[str, tuple[Environment, tuple[RegionId, ...]]] = {}

    def configuration(self) -> Body:
        """Return the route configuration."""
        owners: dict[str, list[Environment]] = {}
        for environment in self._plan.catalog.environments():
            for host in environment.hosts:
                owners.setdefault(host, []).append(environment)
        groups: dict[tuple[bool, tuple[EnvironmentId, ...]], list[str]] = {}
        environments = {e.id: e for e in self._plan.catalog.environments()}
        for host, sites in owners.items():
            sites.sort(key=lambda e: -len(e.path_prefix.strip("/")))
            key = (host.startswith("*."), tuple(e.id for e in sites))
            groups.setdefault(key, []).append(host)
        hosts = [
            self._host([environments[id] for id in ids], domains, is_wildcard)
            for (is_wildcard, ids), domains in groups.items()
        ]
        if self._plan.answers:
            rest = {"name": "*", "domains": ["*"], "routes": self._answers()}
            hosts.append(rest)
        return {
            "name": ROUTES,
            "virtual_hosts": hosts,
            "ignore_port_in_host_matching": True,
            "max_direct_response_body_size_bytes": 4096,
            "response_headers_to_add": [_PLACEMENT],
        }

    def redirect(self, port: int) -> Body:
        """Return the routes of a listener that sends its clients to TLS."""
        target = {
            "https_redirect": True,
            "response_code": "PERMANENT_REDIRECT",
            "port_redirect": port,
        }
        route = {"match": {"prefix": "/"}, "redirect": target}
        host = {"name": "*", "domains": ["*"], "routes": [*self._answers(), route]}
        return {"name": REDIRECT, "virtual_hosts": [host], "ignore_port_in_host_matching": True}

    def _answers(self) -> list[Body]:
        return [
            {
                "match": {"path": path},
                "direct_response": {
                    "status": status,
                    **({"body": {"inline_string": body}} if body else {}),
                },
            }
            for path, (status, body) in self._plan.answers.items()
        ]

    def _host(self, sites: Sequence[Environment], domains: list[str], is_wildcard: bool) -> Body:
        first = self._answers()
        if is_wildcard:
            first += [_beyond(domain) for domain in domains]
        routes = {
            method: [*first, *chain.from_iterable(self._environment(e, method) for e in sites)]
            for method in MethodClass
        }
        return {"name": domains[0], "domains": sorted(domains), "matcher": _by_method(routes)}

    def _environment(self, environment: Environment, method: MethodClass) -> list[Body]:
        found: list[Body] = []
        at = _within(environment)
        if method is MethodClass.READ:  # a handshake is a GET
            shares = self._splits(environment, _UPGRADES, None)[method]
            upgrades = at | {"headers": [_UPGRADE]}
            found.append(self._route(environment, _UPGRADES, upgrades, shares))
        for rule in sorted(environment.rules, key=specificity):
            match = _pattern(rule.pattern, environment)
            found.append(self._usual(environment, method, rule.pattern, match, rule))
        declared = {rule.pattern for rule in environment.rules}
        learned = {k.route for k in self._learned.get(environment.id, ())} - {OTHER, *declared}
        rest = OTHER if len(learned) >= MAX_CLASSES else _REST
        usual = self._splits(environment, rest, None)
        for route in sorted(learned):
            if self._splits(environment, route, None) != usual:
                match = _regex(class_regex(route), environment)
                found.append(self._usual(environment, method, route, match, None))
        return [*found, self._usual(environment, method, rest, at, None)]

    def _splits(
        self, environment: Environment, route: str, rule: RouteRule | None
    ) -> dict[MethodClass, list[Share]]:
        plan = self._plan
        return {
            method: split(
                plan.edge,
                plan.snapshot.find(RouteKey(environment.id, route, method)),
                plan.permitted(environment.id),
                method,
                is_local=rule is not None and rule.is_local,
            )
            for method in MethodClass
        }

    def _usual(
        self,
        environment: Environment,
        method: MethodClass,
        route: str,
        match: Body,
        rule: RouteRule | None,
    ) -> Body:
        shares = self._splits(environment, route, rule)[method]
        body = self._route(environment, f"{route} {method.value}", match, shares)
        if (action := body.get("route")) is not None:
            action["timeout"] = seconds(environment.request_timeout or 0.0)
            action["idle_timeout"] = seconds(self._plan.terms.proxy.read_timeout)
            action["retry_policy"] = _retries(self._plan, method)
        return body

    def _route(
        self, environment: Environment, label: str, match: Body, shares: list[Share]
    ) -> Body:
        arms = {share.order[0]: share.arm for share in shares}
        body: Body = {"name": route_name(f"{environment.id} {label}", arms), "match": match}
        clusters = []
        for share in shares:
            name = cluster_name(environment.id, share.order)
            self.orders[name] = (environment, share.order)
            clusters.append({"name": name, "weight": share.weight})
        # An upgraded connection may last; whatever else may not says so itself.
        limits = {"timeout": "0s", "idle_timeout": seconds(self._plan.terms.proxy.tunnel_timeout)}
        if not clusters:
            body["direct_response"] = {"status": 503}
        elif len(clusters) == 1:
            body["route"] = {"cluster": clusters[0]["name"], **limits}
        else:
            body["route"] = {
                "weighted_clusters": {"clusters": clusters, "use_hash_policy": True},
                "hash_policy": [{"header": {"header_name": "x-request-id"}}],
                **limits,
            }
        return body


_PLACEMENT: Body = {
    "header": {
        "key": PLACEMENT_HEADER,
        "value": f"%UPSTREAM_METADATA({METADATA}:placement)%",
    },
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def _retries(plan: Plan, method: MethodClass) -> Body:
    attempts = plan.terms.proxy.extra_attempts
    return {
        "retry_on": _RETRIES[method],
        "num_retries": attempts,
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": _REGIONS, "update_frequency": 1},
        },
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": _HOSTS},
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _by_method(routes: Mapping[MethodClass, list[Body]]) -> Body:
    """Return a matcher that looks at the method once, instead of once for each route."""
    method_of = {
        "name": "envoy.matching.inputs.request_headers",
        "typed_config": {"@type": _INPUT, "header_name": ":method"},
    }
    each = [
        {"single_predicate": {"input": method_of, "value_match": {"exact": name}}}
        for name in _READS
    ]
    reads, writes = (
        {
            "action": {
                "name": "envoy.config.route.v3.RouteList",
                "typed_config": {"@type": _LIST, "routes": routes[method]},
            }
        }
        for method in (MethodClass.READ, MethodClass.WRITE)
    )
    entry = {"predicate": {"or_matcher": {"predicate": each}}, "on_match": reads}
    return {"matcher_list": {"matchers": [entry]}, "on_no_match": writes}


def _within(environment: Environment) -> Body:
    """Return the match of every path below an environment's prefix."""
    prefix = "/" + environment.path_prefix.strip("/")
    return {"prefix": "/"} if prefix == "/" else {"path_separated_prefix": prefix}


def _pattern(pattern: str, environment: Environment) -> Body:
    """Return the match of a declared pattern, without a regular expression where none is needed."""
    head, stars, _ = pattern.partition("/**")
    if "*" in head or environment.path_prefix.strip("/"):
        return _regex(pattern_regex(pattern), environment)
    if not stars:
        return {"path": pattern}
    return {"path_separated_prefix": head} if head else {"prefix": "/"}


def _regex(regex: str, environment: Environment) -> Body:
    prefix = "/" + environment.path_prefix.strip("/")
    body: Body = {"safe_regex": {"regex": regex}}
    if prefix != "/":
        inside = {"safe_regex": {"regex": re.escape(prefix) + r"(?:[/?].*)?"}}
        body["headers"] = [{"name": ":path", "string_match": inside}]
    return body


def _beyond(domain: str) -> Body:
    """Return a route for hosts with more labels than the one that a wildcard stands for."""
    # Of several wildcard domains each has to let its own hosts through.
    rest = re.escape(domain.removeprefix("*."))
    deeper = {"safe_regex": {"regex": rf"(?i).+\.[^.]+\.{rest}\.?(?::[0-9]*)?"}}
    return {
        "match": {"prefix": "/", "headers": [{"name": ":authority", "string_match": deeper}]},
        "direct_response": {"status": 404},
        "name": f"{Kind.NO_ROUTE.value} ",
    }
