"""The bootstrap: what an Envoy has to know before it can ask its node for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onetrip.xds.clusters import seconds
from onetrip.xds.names import CONTROL_CLUSTER, RUNTIME

Body = dict[str, Any]

CONNECT_TIMEOUT = 2.0
"""Longest time in which the node's control plane takes a connection, s."""

PING_INTERVAL = 10.0
"""Time between two signs of life on the connection to the node, s: a lost one is noticed."""

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECTIONS = (
    "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
    ".DownstreamConnectionsConfig"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Files by which an Envoy and its node know each other, and the node's name."""

    ca: str
    cert: str
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a bootstrap is made of.

    Attributes:
        region: of the node, and of the Envoy.
        control: host and port of the node's control plane.
        admin: host and port of Envoy's own admin interface, or None for none.
        identity: None speaks in clear, which only loopback is for.
        max_connections: of clients at once.
    """

    region: str
    control: tuple[str, int]
    admin: tuple[str, int] | None
    identity: Identity | None
    max_connections: int

    def body(self) -> Body:
        """Return the bootstrap as Envoy reads it from a file."""
        ads = {"ads": {}, "resource_api_version": "V3"}
        found: Body = {
            "node": {"id": f"{self.region}-envoy", "cluster": "onetrip"},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL_CLUSTER}}],
                },
                "cds_config": ads,
                "lds_config": ads,
            },
            "layered_runtime": {
                "layers": [
                    {"name": RUNTIME, "rtds_layer": {"name": RUNTIME, "rtds_config": ads}},
                    {"name": "admin", "admin_layer": {}},
                ]
            },
            "static_resources": {"clusters": [self._control()]},
            "overload_manager": {
                "resource_monitors": [
                    {
                        "name": "envoy.resource_monitors.global_downstream_max_connections",
                        "typed_config": {
                            "@type": _CONNECTIONS,
                            "max_active_downstream_connections": self.max_connections,
                        },
                    }
                ]
            },
        }
        if self.admin is not None:
            found["admin"] = {"address": _address(self.admin)}
        return found

    def _control(self) -> Body:
        keepalive = {"interval": seconds(PING_INTERVAL), "timeout": seconds(PING_INTERVAL)}
        http2 = {"http2_protocol_options": {"connection_keepalive": keepalive}}
        at = {"lb_endpoints": [{"endpoint": {"address": _address(self.control)}}]}
        body: Body = {
            "name": CONTROL_CLUSTER,
            "type": "STRICT_DNS",
            "connect_timeout": seconds(CONNECT_TIMEOUT),
            "load_assignment": {"cluster_name": CONTROL_CLUSTER, "endpoints": [at]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": _OPTIONS,
                    "explicit_http_config": http2,
                }
            },
        }
        if self.identity is not None:
            body["transport_socket"] = _tls(self.identity)
        return body


def _address(at: tuple[str, int]) -> Body:
    return {"socket_address": {"address": at[0], "port_value": at[1]}}


def _tls(identity: Identity) -> Body:
    pair = {
        "certificate_chain": {"filename": identity.cert},
        "private_key": {"filename": identity.key},
    }
    names = [{"san_type": "DNS", "matcher": {"exact": identity.name}}]
    trust = {"trusted_ca": {"filename": identity.ca}, "match_typed_subject_alt_names": names}
    context = {
        # As a client, Envoy goes up to 1.2 only unless it is told otherwise.
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [pair],
        "validation_context": trust,
        "alpn_protocols": ["h2"],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": _TLS, "sni": identity.name, "common_tls_context": context},
    }
