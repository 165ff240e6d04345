"""Clusters and endpoints: how requests of one environment reach its instances, region by region.

A cluster's regions are the priorities of its endpoints: a region takes everything while one of its
instances can serve, else the next one does. What the node's probes find out is the endpoints'
health; what requests themselves show (`proxy.ejection`) is Envoy's own outlier detection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from onetrip.model.catalog import Environment, Instance
from onetrip.model.topology import HttpProtocol, RegionId
from onetrip.proxy.ejection import LEAST_INSTANCES
from onetrip.proxy.settings import LEAST_WEIGHT, ProxySettings
from onetrip.xds.names import METADATA, cluster_name
from onetrip.xds.terms import Plan

Body = dict[str, Any]

OVERPROVISIONING = 100_000
"""Per cent: one healthy instance in a thousand keeps a region's share of the requests."""

DEVIATION_SCALE = 1000
"""Envoy's outlier detection counts deviations in thousandths."""

MAX_COUNT = 2**32 - 1
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def seconds(value: float) -> str:
    """Return a duration as JSON writes it."""
    return f"{value:.6f}s"


def cluster(plan: Plan, environment: Environment, order: Sequence[RegionId]) -> Body:
    """Return the cluster whose requests try the regions of `order`."""
    settings = plan.terms.proxy
    instances = [i for i in environment.instances if i.region in order]
    first = sum(1 for i in instances if i.region == order[0])
    name = cluster_name(environment.id, order)
    body: Body = {
        "name": name,
        "connect_timeout": seconds(settings.connect_timeout),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "ignore_health_on_host_removal": True,
        "per_connection_buffer_limit_bytes": settings.buffer_size,
        "circuit_breakers": _limits(settings, environment, first),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _protocol(
                settings, instances[0].endpoint.protocol
            )
        },
    }
    if needs_names(environment):
        # By default only IPv6 addresses of a name that has both would be used; all of them would
        # be instances of their own, half of which a network without IPv6 does not reach.
        body |= {"type": "STRICT_DNS", "dns_lookup_family": "V4_PREFERRED"}
        body |= {"load_assignment": endpoints(plan, environment, order)}
    else:
        config = {"ads": {}, "resource_api_version": "V3"}
        body |= {"type": "EDS", "eds_cluster_config": {"eds_config": config}}
    if settings.slow_start:
        body["least_request_lb_config"] = {"slow_start_config": _slow_start(settings)}
    if settings.ejection.max_share:
        body["outlier_detection"] = _outliers(settings)
    if any(i.endpoint.tls_name for i in instances):
        body["transport_socket_matches"] = [
            {"name": "tls", "match": {"tls": "yes"}, "transport_socket": _tls(plan, instances)},
            {"name": "clear", "match": {}, "transport_socket": _CLEAR},
        ]
    return body


_CLEAR: Body = {
    "name": "envoy.transport_sockets.raw_buffer",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    },
}


def needs_names(environment: Environment) -> bool:
    """Tell whether Envoy has to look up names of instances; endpoints by EDS have none."""
    return not all(is_address(i.endpoint.host) for i in environment.instances)


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def endpoints(plan: Plan, environment: Environment, order: Sequence[RegionId]) -> Body:
    """Return the instances of a cluster, each region a priority."""
    localities = [
        {
            "priority": priority,
            "locality": {"region": region},
            "lb_endpoints": [
                _endpoint(plan, each) for each in environment.instances if each.region == region
            ],
        }
        for priority, region in enumerate(order)
    ]
    return {
        "cluster_name": cluster_name(environment.id, order),
        "endpoints": localities,
        "policy": {"overprovisioning_factor": OVERPROVISIONING},
    }


def _endpoint(plan: Plan, instance: Instance) -> Body:
    endpoint, region = instance.endpoint, instance.region
    where = "local" if region == plan.edge else "remote"
    facts: Body = {METADATA: {"region": region, "placement": f"{where}-{region}"}}
    address: Body = {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}
    body: Body = {"address": address}
    if endpoint.tls_name is not None:
        body["hostname"] = endpoint.tls_name
        facts["envoy.transport_socket_match"] = {"tls": "yes"}
    health = "UNHEALTHY" if str(endpoint) in plan.failing else "HEALTHY"
    return {"endpoint": body, "health_status": health, "metadata": {"filter_metadata": facts}}


def _limits(settings: ProxySettings, environment: Environment, instances: int) -> Body:
    """Return the circuit breakers: each instance's limits, as many times as there are instances."""
    most = min(environment.capacity or MAX_COUNT, settings.pool_requests)
    return {
        "thresholds": [
            {
                "max_connections": min(MAX_COUNT, settings.pool_connections * instances),
                "max_pending_requests": min(MAX_COUNT, settings.pool_queue * instances),
                "max_requests": min(MAX_COUNT, most * instances),
                "retry_budget": {
                    "budget_percent": {"value": settings.retry_ratio * 100},
                    "min_retry_concurrency": settings.retry_reserve,
                },
            }
        ]
    }


def _slow_start(settings: ProxySettings) -> Body:
    return {
        "slow_start_window": seconds(settings.slow_start),
        "aggression": {
            "default_value": settings.slow_start_aggression,
            "runtime_key": "onetrip.slow_start_aggression",
        },
        "min_weight_percent": {"value": LEAST_WEIGHT * 100},
    }


def _outliers(settings: ProxySettings) -> Body:
    rules = settings.ejection

    def enforced(rule: float) -> int:
        return 100 if rule else 0

    return {
        "split_external_local_origin_errors": True,
        "interval": seconds(rules.interval),
        "base_ejection_time": seconds(rules.base_time),
        "max_ejection_time": seconds(rules.max_time),
        "max_ejection_percent": round(rules.max_share * 100),
        "consecutive_5xx": rules.errors or 1,
        "enforcing_consecutive_5xx": enforced(rules.errors),
        "consecutive_gateway_failure": rules.gateway_errors or 1,
        "enforcing_consecutive_gateway_failure": enforced(rules.gateway_errors),
        "consecutive_local_origin_failure": rules.connect_errors or 1,
        "enforcing_consecutive_local_origin_failure": enforced(rules.connect_errors),
        "success_rate_minimum_hosts": LEAST_INSTANCES,
        "success_rate_request_volume": rules.least_requests,
        "success_rate_stdev_factor": round(rules.deviation * DEVIATION_SCALE),
        "enforcing_success_rate": enforced(rules.deviation),
        "enforcing_local_origin_success_rate": 0,
        "failure_percentage_threshold": round(rules.failure_ratio * 100),
        "failure_percentage_minimum_hosts": 1,
        "failure_percentage_request_volume": rules.least_requests,
        "enforcing_failure_percentage": enforced(rules.failure_ratio),
    }


def _protocol(settings: ProxySettings, protocol: HttpProtocol) -> Body:
    idle = {"idle_timeout": seconds(settings.pool_idle_timeout)}
    body: Body = {"@type": _OPTIONS, "common_http_protocol_options": idle}
    http2 = {
        "max_concurrent_streams": settings.upstream_streams,
        "connection_keepalive": {
            "interval": seconds(settings.ping_interval),
            "timeout": seconds(settings.ping_timeout),
        },
    }
    if protocol is HttpProtocol.AUTO:
        both = {"http_protocol_options": {}, "http2_protocol_options": http2}
        return body | {"auto_config": both}
    explicit: Body = {"http_protocol_options": {}}
    if protocol is HttpProtocol.H2:
        explicit = {"http2_protocol_options": http2}
    return body | {"explicit_http_config": explicit}


def _tls(plan: Plan, instances: Sequence[Instance]) -> Body:
    # Each instance is asked for, and checked for, the name it is configured with.
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": _TLS,
            "auto_host_sni": True,
            "auto_sni_san_validation": True,
            "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {"trusted_ca": {"filename": plan.terms.trust_file}},
                "alpn_protocols": list(instances[0].endpoint.protocol.alpn),
            },
        },
    }
