"""Messages of Envoy's API to values of ours and back; with `server`, the only user of its types.

The imports of extensions look unused: they register the types that resources name by their URLs.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2 as _cluster  # noqa: F401
from envoy.config.endpoint.v3 import endpoint_pb2 as _endpoint  # noqa: F401
from envoy.config.listener.v3 import listener_pb2 as _listener  # noqa: F401
from envoy.config.route.v3 import route_pb2 as _route  # noqa: F401
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2 as _file  # noqa: F401
from envoy.extensions.access_loggers.grpc.v3 import als_pb2 as _grpc  # noqa: F401
from envoy.extensions.access_loggers.stream.v3 import stream_pb2 as _stream  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2 as _router  # noqa: F401
from envoy.extensions.filters.listener.tls_inspector.v3 import (
    tls_inspector_pb2 as _inspector,  # noqa: F401
)
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as _http,  # noqa: F401
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2 as _mutation,  # noqa: F401
)
from envoy.extensions.retry.host.previous_hosts.v3 import (
    previous_hosts_pb2 as _hosts,  # noqa: F401
)
from envoy.extensions.retry.priority.previous_priorities.v3 import (
    previous_priorities_config_pb2 as _priorities,  # noqa: F401
)
from envoy.extensions.transport_sockets.raw_buffer.v3 import (
    raw_buffer_pb2 as _clear,  # noqa: F401
)
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as _tls  # noqa: F401
from envoy.extensions.upstreams.http.v3 import (
    http_protocol_options_pb2 as _options,  # noqa: F401
)
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.runtime.v3 import rtds_pb2 as _rtds  # noqa: F401
from google.protobuf import any_pb2, json_format

from onetrip.errors import OnetripError
from onetrip.xds.session import Request, Resource, Response, Type

DeltaRequest = discovery_pb2.DeltaDiscoveryRequest
DeltaResponse = discovery_pb2.DeltaDiscoveryResponse
LogMessage = als_pb2.StreamAccessLogsMessage
LogResponse = als_pb2.StreamAccessLogsResponse
LogEntry = accesslog_pb2.HTTPAccessLogEntry

_TYPES = {kind.value: kind for kind in Type}


def read_request(message: Any) -> Request | None:
    """Return what a client asks or confirms; None for a type that nothing is offered of."""
    kind = _TYPES.get(message.type_url)
    if kind is None:
        return None
    return Request(
        kind,
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        versions=dict(message.initial_resource_versions),
    )


def client_of(message: Any) -> tuple[str, str]:
    """Return the name and the version that a client gives itself; "" where it does not."""
    told = message.node.user_agent_build_version.version
    version = f"{told.major_number}.{told.minor_number}.{told.patch}"
    return message.node.id[:64], version


def write_response(response: Response) -> Any:
    """Return the message of a response.

    Raises:
        OnetripError: a resource is not what its type takes: a fault of ours.
    """
    return DeltaResponse(
        type_url=response.type.value,
        nonce=response.nonce,
        resources=[_resource(each, response.type) for each in response.resources],
        removed_resources=response.removed,
    )


def _resource(resource: Resource, kind: Type) -> Any:
    packed = any_pb2.Any()
    try:
        json_format.ParseDict({"@type": kind.value, **resource.body}, packed)
    except json_format.ParseError as error:
        raise OnetripError(f"{kind.name.lower()} {resource.name}: {error}") from error
    return discovery_pb2.Resource(name=resource.name, version=resource.version, resource=packed)
