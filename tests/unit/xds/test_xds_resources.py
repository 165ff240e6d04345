"""Resources of a plan: what Envoy would be told, checked as values, and as messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from onetrip.errors import OnetripError
from onetrip.model.catalog import (
    Catalog,
    Environment,
    EnvironmentId,
    Instance,
    Policy,
    Project,
    RouteRule,
)
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.proxy.router import MAX_CLASSES, OTHER
from onetrip.proxy.settings import ProxySettings
from onetrip.xds.clusters import OVERPROVISIONING
from onetrip.xds.names import LISTENER, REDIRECT, ROUTES, TLS_LISTENER
from onetrip.xds.protobuf import write_response
from onetrip.xds.resources import state_of
from onetrip.xds.session import Resource, Response, State, Type
from onetrip.xds.terms import Address, Pair, Plan, Terms
from support.envoy import HERE, SHOP, THERE, pinned, placed, plan_for

BOTH = {HERE: [9001], THERE: [9002]}


def bodies(state: State, kind: Type) -> dict[str, Any]:
    return {name: resource.body for name, resource in state[kind].items()}


def hosts(plan: Plan) -> list[dict[str, Any]]:
    return list(bodies(state_of(plan), Type.ROUTE)[ROUTES]["virtual_hosts"])


def routes(plan: Plan, host: str = "shop.test") -> list[dict[str, Any]]:
    found = next(h for h in hosts(plan) if host in h["domains"])
    if "routes" in found:
        return list(found["routes"])
    (reads,) = found["matcher"]["matcher_list"]["matchers"]
    lists = (reads["on_match"], found["matcher"]["on_no_match"])
    return [r for each in lists for r in each["action"]["typed_config"]["routes"]]


def named(plan: Plan, start: str) -> dict[str, Any]:
    return next(r for r in routes(plan) if r["name"].startswith(start))


def environment(plan: Plan) -> Environment:
    return plan.catalog.projects["shop"].environments["production"]


def with_environment(plan: Plan, **fields: Any) -> Plan:
    changed = replace(environment(plan), **fields)
    project = replace(plan.catalog.projects["shop"], environments={"production": changed})
    return replace(plan, catalog=Catalog({"shop": project}))


def full_terms() -> Terms:
    pairs = (
        Pair("certificate/a.pem", ("shop.test",), "chain", "key"),
        Pair("certificate/b.pem", ("other.test",), "chain", "key"),
    )
    return Terms(
        Address("127.0.0.1", 8080),
        ProxySettings(),
        tls=Address("127.0.0.1", 8443),
        pairs=pairs,
        protocols=("h2", "http/1.1"),
        redirect_port=443,
        access_log="stderr",
        trust_file="/ca.pem",
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"hosts": ("*.shop.test", "shop.test"), "path_prefix": "/app", "capacity": 3},
        {"rules": (RouteRule("/static/**", is_local=True), RouteRule("/u/*"))},
        {"instances": (Instance(HERE, Endpoint("app.internal", 443, "app.internal")),)},
        {"instances": (Instance(HERE, Endpoint("::1", 9, "x.test", HttpProtocol.AUTO)),)},
        {"instances": (Instance(HERE, Endpoint("127.0.0.1", 9, None, HttpProtocol.H2)),)},
    ],
    ids=["plain", "prefix", "rules", "names and TLS", "IPv6 and ALPN", "HTTP/2"],
)
def test_every_body_is_a_message_of_its_type(more: dict[str, Any]) -> None:
    plan = plan_for(8080, BOTH, placed(THERE, 0.1, 0.1), terms=full_terms(), log_ratio=0.5)
    for kind, resources in state_of(with_environment(plan, **more)).items():
        message = write_response(Response(kind, "1", tuple(resources.values())))
        assert [r.name for r in message.resources] == list(resources)


def test_body_that_is_no_message_is_told_as_an_error() -> None:
    bad = Resource("x", "1", {"name": "x", "no_such_field": 1})
    with pytest.raises(OnetripError, match=r"cluster x: .*no_such_field"):
        write_response(Response(Type.CLUSTER, "1", (bad,)))


def test_versions_change_exactly_with_what_they_stand_for() -> None:
    plan = plan_for(8080, BOTH, placed(THERE, 0.1))
    first, again = state_of(plan), state_of(replace(plan))
    assert first == again
    sick = state_of(replace(plan, failing=frozenset(["127.0.0.1:9002"])))
    changed = [kind for kind in Type if first[kind] != sick[kind]]
    assert changed == [Type.ENDPOINT]


def test_cluster_tries_regions_in_order_and_leaves_sick_instances_out() -> None:
    plan = plan_for(8080, {HERE: [9001, 9003], THERE: [9002]}, placed(THERE, 0.1))
    plan = replace(plan, failing=frozenset(["127.0.0.1:9003"]))
    state = state_of(plan)
    assert set(state[Type.CLUSTER]) == {"shop/production@here,there", "shop/production@there,here"}
    body = bodies(state, Type.ENDPOINT)["shop/production@there,here"]
    assert body["policy"] == {"overprovisioning_factor": OVERPROVISIONING}
    first, second = body["endpoints"]
    assert (first["priority"], first["locality"]["region"]) == (0, "there")
    (there,) = first["lb_endpoints"]
    facts = there["metadata"]["filter_metadata"]["onetrip"]
    assert facts == {"region": "there", "placement": "remote-there"}
    assert [e["health_status"] for e in second["lb_endpoints"]] == ["HEALTHY", "UNHEALTHY"]


def test_limits_of_an_instance_count_once_for_each_of_the_first_region() -> None:
    plan = plan_for(8080, {HERE: [1, 2], THERE: [3]}, pinned(HERE), more={"capacity": 5})
    body = bodies(state_of(plan), Type.CLUSTER)["shop/production@here,there"]
    (limits,) = body["circuit_breakers"]["thresholds"]
    assert limits["max_requests"] == 10
    assert limits["max_connections"] == 2 * ProxySettings().pool_connections


def test_policy_keeps_denied_regions_out_of_every_cluster() -> None:
    policy = Policy(deny=frozenset([THERE]))
    state = state_of(plan_for(8080, BOTH, placed(THERE, 0.1, 0.1), policy=policy))
    assert list(state[Type.CLUSTER]) == ["shop/production@here"]
    assert "9002" not in str(bodies(state, Type.ENDPOINT))


def test_environment_without_a_permitted_region_answers_503() -> None:
    policy = Policy(allow=frozenset([THERE]))
    plan = plan_for(8080, {HERE: [9001]}, pinned(THERE), policy=policy)
    assert all(r["direct_response"] == {"status": 503} for r in routes(plan))
    assert state_of(plan)[Type.CLUSTER] == {}


def test_shares_of_a_route_are_weights_by_a_hash_of_the_request() -> None:
    plan = plan_for(8080, BOTH, placed(THERE, control=0.1))
    route = named(plan, "shop/production (rest) read")
    split = route["route"]["weighted_clusters"]
    assert [(c["name"].partition("@")[2], c["weight"]) for c in split["clusters"]] == [
        ("there,here", 900_000),
        ("here,there", 100_000),
    ]
    assert split["use_hash_policy"] is True
    assert route["route"]["hash_policy"] == [{"header": {"header_name": "x-request-id"}}]
    assert route["name"].endswith(" there=placed,here=control")


def test_writes_are_not_explored_and_not_sent_twice() -> None:
    placement = replace(placed(THERE, 0.0), explore=HERE, explore_ratio=0.5)
    plan = plan_for(8080, BOTH, placement)
    read, write = (named(plan, f"shop/production (rest) {m}") for m in ("read", "write"))
    assert "weighted_clusters" in read["route"]
    assert "reset" in read["route"]["retry_policy"]["retry_on"].split(",")
    assert "weighted_clusters" not in write["route"]
    assert "reset" not in write["route"]["retry_policy"]["retry_on"].split(",")


def test_local_rule_stays_where_the_default_is() -> None:
    rules = (RouteRule("/static/**", is_local=True),)
    plan = plan_for(8080, BOTH, placed(THERE), more={"rules": rules})
    assert named(plan, "shop/production /static/** read")["name"].endswith(" here=default")


def test_learned_routes_that_run_like_the_rest_need_no_route() -> None:
    keys = {
        RouteKey(SHOP, "/same", MethodClass.READ): pinned(HERE),
        RouteKey(SHOP, "/other/{id}", MethodClass.WRITE): pinned(THERE),
    }
    snapshot = PlacementSnapshot(HERE, 1, keys, {SHOP: pinned(HERE)})
    names = [r["name"] for r in routes(plan_for(8080, BOTH, snapshot=snapshot))]
    assert not any("/same" in name for name in names)
    assert "shop/production /other/{id} write there=hint" in names
    assert names[-1] == "shop/production (rest) write here=hint"
    assert "shop/production (rest) read here=hint" in names


def test_what_is_left_belongs_to_other_once_there_are_too_many_classes() -> None:
    keys = {RouteKey(SHOP, f"/r{n}", MethodClass.READ): pinned(HERE) for n in range(MAX_CLASSES)}
    keys[RouteKey(SHOP, OTHER, MethodClass.READ)] = pinned(THERE)
    snapshot = PlacementSnapshot(HERE, 1, keys, {SHOP: pinned(HERE)})
    plan = plan_for(8080, BOTH, snapshot=snapshot)
    assert named(plan, "shop/production other read")["name"].endswith(" there=hint")
    assert named(plan, "shop/production /r7 read")["name"].endswith(" here=hint")


def test_longer_prefix_of_a_shared_host_comes_first_and_stays_inside() -> None:
    plan = plan_for(8080, BOTH, pinned(HERE))
    api = Environment(
        EnvironmentId("api", "production"),
        ("shop.test",),
        environment(plan).instances,
        {},
        (RouteRule("/**"),),
        path_prefix="/api",
    )
    projects = {**plan.catalog.projects, "api": Project("api", Policy(), {"production": api})}
    found = routes(replace(plan, catalog=Catalog(projects)))
    owners = [r["name"].partition("/")[0] for r in found if "read" in r["name"]]
    assert owners == sorted(owners)  # "api" before "shop"
    rule = next(r for r in found if r["name"].startswith("api/production /** "))
    inside = rule["match"]["headers"][0]
    assert inside["name"] == ":path"
    assert inside["string_match"]["safe_regex"]["regex"].startswith("/api(?:")


def test_wildcard_host_covers_one_label() -> None:
    plan = plan_for(8080, BOTH, pinned(HERE), more={})
    plan = with_environment(plan, hosts=("*.shop.test",))
    first = routes(plan, "*.shop.test")[0]
    assert first["direct_response"] == {"status": 404}
    (header,) = first["match"]["headers"]
    assert header["name"] == ":authority"


def test_tls_listener_has_a_chain_for_each_certificate_and_clear_clients_are_sent_there() -> None:
    state = state_of(plan_for(8080, BOTH, terms=full_terms()))
    listeners = bodies(state, Type.LISTENER)
    default, other = listeners[TLS_LISTENER]["filter_chains"]
    assert "filter_chain_match" not in default
    assert other["filter_chain_match"] == {"server_names": ["other.test"]}
    assert set(state[Type.SECRET]) == {"certificate/a.pem", "certificate/b.pem"}
    (clear,) = listeners[LISTENER]["filter_chains"]
    assert clear["filters"][0]["typed_config"]["rds"]["route_config_name"] == REDIRECT
    (host,) = bodies(state, Type.ROUTE)[REDIRECT]["virtual_hosts"]
    assert host["routes"][-1]["redirect"]["port_redirect"] == 443


def test_key_is_not_in_what_a_pair_prints() -> None:
    assert "secret-key" not in repr(Pair("name", (), "chain", "secret-key"))


def test_answers_come_before_every_route_and_for_every_host() -> None:
    path = "/.well-known/acme-challenge/token"
    plan = plan_for(8080, BOTH, pinned(HERE), answers={path: (200, "proof")})
    for host in ("shop.test", "*"):
        answer = routes(plan, host)[0]
        assert answer["match"] == {"path": path}
        assert answer["direct_response"]["body"] == {"inline_string": "proof"}


def test_ejection_that_is_off_enforces_nothing() -> None:
    ejection = replace(ProxySettings().ejection, errors=0, deviation=0)
    settings = ProxySettings(ejection=ejection, slow_start=0)
    terms = Terms(Address("127.0.0.1", 1), settings)
    (body,) = bodies(state_of(plan_for(1, {HERE: [2]}, terms=terms)), Type.CLUSTER).values()
    outliers = body["outlier_detection"]
    assert outliers["enforcing_consecutive_5xx"] == 0
    assert outliers["enforcing_success_rate"] == 0
    assert outliers["enforcing_consecutive_gateway_failure"] == 100
    assert "least_request_lb_config" not in body

    none = ProxySettings(ejection=replace(ejection, max_share=0))
    plan = plan_for(1, {HERE: [2]}, terms=Terms(Address("127.0.0.1", 1), none))
    (body,) = bodies(state_of(plan), Type.CLUSTER).values()
    assert "outlier_detection" not in body


def test_share_of_a_pinned_project_is_a_weight_as_well() -> None:
    snapshot = replace(pinned(THERE), control_ratio=0.75)
    plan = plan_for(8080, BOTH, snapshot)
    route = named(plan, "shop/production (rest) read")
    split = route["route"]["weighted_clusters"]
    weights = {c["name"].partition("@")[2]: c["weight"] for c in split["clusters"]}
    assert weights == {"there,here": 250_000, "here,there": 750_000}
    assert route["name"].endswith(" there=hint,here=control")
