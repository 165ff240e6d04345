"""Listeners: where Envoy takes clients, what it does with their headers, and what it logs."""

from __future__ import annotations

from typing import Any

from onetrip.errors import Kind
from onetrip.xds.clusters import seconds
from onetrip.xds.names import (
    CONTROL_CLUSTER,
    LISTENER,
    LOG_RATIO_KEY,
    METADATA,
    REDIRECT,
    ROUTES,
    RUNTIME,
    TLS_LISTENER,
)
from onetrip.xds.terms import Address, Pair, Plan

Body = dict[str, Any]

LOG_INTERVAL = 0.2
"""Longest time that Envoy keeps entries for the node back, s: placement learns from them."""

LOG_BUFFER = 64 * 1024
"""Bytes of entries that are sent at once, however little time has passed."""

LOG_SCALE = 1_000_000
"""`LOG_RATIO_KEY` counts in millionths."""

MOST_HEAD = 8192
"""Envoy's largest limit of a request's head, KiB."""

MOST_REGEX = 20_000
"""Instructions of a regular expression that Envoy takes; its own limit is 100. One `{id}` needs
about 700, a route class has at most twelve, and RE2's time grows with the path alone."""

_TYPE = "type.googleapis.com/envoy."
_HTTP = _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = _TYPE + "extensions.filters.http.router.v3.Router"
_GRPC_LOG = _TYPE + "extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
_FILE_LOG = _TYPE + "extensions.access_loggers.file.v3.FileAccessLog"
_STDERR_LOG = _TYPE + "extensions.access_loggers.stream.v3.StderrAccessLog"
_MUTATION = _TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
_TLS = _TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_INSPECTOR = _TYPE + "extensions.filters.listener.tls_inspector.v3.TlsInspector"

_FORGED = (
    *("forwarded", "x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
    *("x-forwarded-prefix", "x-forwarded-server", "x-real-ip"),
    *("onetrip-hop", "onetrip-placement", "onetrip-refused"),
)
"""Request headers that only we may write. Envoy itself replaces X-Forwarded-Proto, X-Request-Id and
its own. Names are compared one by one while it walks over the fields: an expression for each field
is slower, and a plain `remove` makes Envoy build a table of all fields first."""

_NOBODY = {"address_prefix": "255.255.255.255", "prefix_len": 32}
"""Clients whose `x-envoy-` headers are obeyed; the default would be every private address."""

_LINE = {
    "ts": "%START_TIME(%s.%3f)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ)%",
    "status": "%RESPONSE_CODE%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "ttfb_ms": "%RESPONSE_DURATION%",
    "route": "%ROUTE_NAME%",
    "region": f"%UPSTREAM_METADATA({METADATA}:region)%",
    "upstream": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "error": "%RESPONSE_CODE_DETAILS%",
}

_REPLIES = (
    ("NR", Kind.NO_ROUTE, "no project serves this host and path"),
    ("UH", Kind.UNAVAILABLE, "no instance of the application is ready"),
    ("UF", Kind.CONNECT, "the application could not be reached"),
    ("UO", Kind.REQUEST_LIMIT, "the application has as many requests as it may"),
    ("UT", Kind.DEADLINE, "the request took longer than it may"),
    ("SI", Kind.TIMEOUT, "the application did not answer in time"),
    ("UC", Kind.RESET, "the application closed the connection before its response was complete"),
)
"""Flags of Envoy's own replies, and what `proxy.replies` tells a client in their place."""


def listeners(plan: Plan) -> dict[str, Body]:
    """Return every listener by its name."""
    terms = plan.terms
    routes = REDIRECT if terms.redirect_port is not None else ROUTES
    clear = {"filters": [_filter(plan, routes)]}
    found = {LISTENER: _listener(plan, LISTENER, terms.clients, [clear])}
    if terms.tls is not None:
        body = _listener(plan, TLS_LISTENER, terms.tls, _tls_chains(plan))
        inspector = {"name": "envoy.filters.listener.tls_inspector"}
        body["listener_filters"] = [inspector | {"typed_config": {"@type": _INSPECTOR}}]
        body["listener_filters_timeout"] = seconds(terms.proxy.handshake_timeout)
        found[TLS_LISTENER] = body
    return found


def secrets(plan: Plan) -> dict[str, Body]:
    """Return every certificate by its name."""
    return {
        pair.name: {
            "name": pair.name,
            "tls_certificate": {
                "certificate_chain": {"inline_string": pair.chain},
                "private_key": {"inline_string": pair.key},
            },
        }
        for pair in plan.terms.pairs
    }


def runtime(plan: Plan) -> dict[str, Body]:
    """Return the values that may change without a new listener."""
    layer = {
        LOG_RATIO_KEY: round(plan.log_ratio * LOG_SCALE),
        "re2.max_program_size.error_level": MOST_REGEX,
        "re2.max_program_size.warn_level": MOST_REGEX,
    }
    return {RUNTIME: {"name": RUNTIME, "layer": layer}}


def _listener(plan: Plan, name: str, at: Address, chains: list[Body]) -> Body:
    return {
        "name": name,
        "address": {"socket_address": {"address": at.host, "port_value": at.port}},
        "per_connection_buffer_limit_bytes": plan.terms.proxy.buffer_size,
        "filter_chains": chains,
    }


def _tls_chains(plan: Plan) -> list[Body]:
    chains: list[Body] = []
    for number, pair in enumerate(plan.terms.pairs):
        body: Body = {"name": pair.name, "filters": [_filter(plan, ROUTES)]}
        body["transport_socket"] = _downstream_tls(plan, pair)
        body["transport_socket_connect_timeout"] = seconds(plan.terms.proxy.handshake_timeout)
        if number:
            body["filter_chain_match"] = {"server_names": sorted(pair.hosts)}
        chains.append(body)
    return chains


def _downstream_tls(plan: Plan, pair: Pair) -> Body:
    ads = {"ads": {}, "resource_api_version": "V3"}
    least = "TLSv1_3" if plan.terms.min_version == "1.3" else "TLSv1_2"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": _TLS,
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": least,
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": list(plan.terms.protocols),
                "tls_certificate_sds_secret_configs": [{"name": pair.name, "sds_config": ads}],
            },
        },
    }


def _filter(plan: Plan, routes: str) -> Body:
    settings = plan.terms.proxy
    config: Body = {
        "@type": _HTTP,
        "stat_prefix": "onetrip",
        "rds": {
            "route_config_name": routes,
            "config_source": {"ads": {}, "resource_api_version": "V3"},
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True},
            }
        ],
        "access_log": _logs(plan),
        "local_reply_config": _local_replies(),
        "common_http_protocol_options": {
            "idle_timeout": seconds(settings.idle_timeout),
            "max_headers_count": settings.fields_limit,
            "max_requests_per_connection": settings.max_requests,
            # CGI makes one variable of `X_Real_Ip` and `X-Real-Ip`: none may imitate the other.
            "headers_with_underscores_action": "DROP_HEADER",
        },
        "http2_protocol_options": {"max_concurrent_streams": settings.upstream_streams},
        "max_request_headers_kb": min(MOST_HEAD, max(1, settings.head_limit // 1024)),
        "request_headers_timeout": seconds(settings.header_timeout),
        "stream_idle_timeout": seconds(settings.read_timeout),
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "via": "1.1 onetrip",
        "server_header_transformation": "PASS_THROUGH",
        **_client_facts(),
        **_paths(),
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _paths() -> Body:
    # Matching and forwarding must not read a path differently: Envoy forwards what it matched.
    return {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "strip_trailing_host_dot": True,
    }


def _client_facts() -> Body:
    """Return how the application learns about its client: from nobody but this hop."""
    mutations = [{"remove_on_match": {"key_matcher": {"exact": name}}} for name in _FORGED]
    return {
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [_NOBODY]},
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {"@type": _MUTATION, "mutations": mutations},
            }
        ],
    }


def _local_replies() -> Body:
    mappers = [
        {
            "filter": {"response_flag_filter": {"flags": [flag]}},
            "body_format_override": _reply(kind.value, message),
        }
        for flag, kind, message in _REPLIES
    ]
    return {"mappers": mappers, "body_format": _reply("refused", "the request was refused")}


def _reply(kind: str, message: str) -> Body:
    told = {"kind": kind, "message": message, "status": "%RESPONSE_CODE%"}
    error = told | {"request_id": "%REQ(X-REQUEST-ID)%"}
    return {"json_format": {"error": error}, "content_type": "application/json"}


def _logs(plan: Plan) -> list[Body]:
    everything = {"numerator": LOG_SCALE, "denominator": "MILLION"}
    sampled = {
        "runtime_key": LOG_RATIO_KEY,
        "percent_sampled": everything,
        "use_independent_randomness": True,
    }
    found: list[Body] = [
        {
            "name": "envoy.access_loggers.http_grpc",
            "filter": {"runtime_filter": sampled},
            "typed_config": {
                "@type": _GRPC_LOG,
                "common_config": {
                    "log_name": "onetrip",
                    "transport_api_version": "V3",
                    "grpc_service": {"envoy_grpc": {"cluster_name": CONTROL_CLUSTER}},
                    "buffer_flush_interval": seconds(LOG_INTERVAL),
                    "buffer_size_bytes": LOG_BUFFER,
                    "custom_tags": [_REGION_TAG],
                },
                "additional_response_headers_to_log": ["server-timing"],
            },
        }
    ]
    where = plan.terms.access_log
    if where != "off":
        kind = {"@type": _STDERR_LOG} if where == "stderr" else {"@type": _FILE_LOG, "path": where}
        line = {"log_format": {"json_format": _LINE}}
        found.append({"name": "envoy.access_loggers.lines", "typed_config": kind | line})
    return found


_REGION_TAG: Body = {
    "tag": "region",
    "metadata": {
        "kind": {"host": {}},
        "metadata_key": {"key": METADATA, "path": [{"key": "region"}]},
    },
}
