"""Messages of Envoy's API to values of ours and back; with `server`, the only user of its types.

The types are those of `envoy.binpb`, which `scripts/envoy_types.py` writes.
"""

from __future__ import annotations

import zlib
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from onetrip.errors import OnetripError
from onetrip.xds.session import Request, Resource, Response, Type


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    data = zlib.decompress(files("onetrip.xds").joinpath("envoy.binpb").read_bytes())
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


_POOL = _load()
"""A pool of its own, so that nothing else in the process can have other versions of these types."""


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


DeltaRequest = _message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
DeltaResponse = _message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
LogMessage = _message("envoy.service.accesslog.v3.StreamAccessLogsMessage")
LogResponse = _message("envoy.service.accesslog.v3.StreamAccessLogsResponse")
LogEntry = _message("envoy.data.accesslog.v3.HTTPAccessLogEntry")
_Resource = _message("envoy.service.discovery.v3.Resource")
_Any = _message("google.protobuf.Any")

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
    packed = _Any()
    try:
        json_format.ParseDict({"@type": kind.value, **resource.body}, packed, descriptor_pool=_POOL)
    except json_format.ParseError as error:
        raise OnetripError(f"{kind.name.lower()} {resource.name}: {error}") from error
    return _Resource(name=resource.name, version=resource.version, resource=packed)
