"""Write src/onetrip/xds/envoy.binpb: the message types of Envoy's API that `xds/protobuf` needs.

They come from the package `xds-protos`, which gRPC's project generates from Envoy's own files
(https://github.com/envoyproxy/envoy/tree/main/api, Apache-2.0). That package also carries old
copies of other projects' modules (`opentelemetry.proto` among them) that would overwrite theirs, so
nodes do not depend on it. To take a newer API, in a virtual environment of its own:

    python -m venv /tmp/types && /tmp/types/bin/pip install xds-protos
    /tmp/types/bin/python scripts/envoy_types.py
"""

from __future__ import annotations

import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[1] / "src" / "onetrip" / "xds" / "envoy.binpb"

MODULES = (
    "envoy.config.bootstrap.v3.bootstrap_pb2",
    "envoy.config.cluster.v3.cluster_pb2",
    "envoy.config.endpoint.v3.endpoint_pb2",
    "envoy.config.listener.v3.listener_pb2",
    "envoy.config.route.v3.route_pb2",
    "envoy.data.accesslog.v3.accesslog_pb2",
    "envoy.extensions.access_loggers.file.v3.file_pb2",
    "envoy.extensions.access_loggers.grpc.v3.als_pb2",
    "envoy.extensions.access_loggers.stream.v3.stream_pb2",
    "envoy.extensions.filters.http.router.v3.router_pb2",
    "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2",
    "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2",
    "envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2",
    "envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2",
    "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
    "envoy.service.accesslog.v3.als_pb2",
    "envoy.service.discovery.v3.discovery_pb2",
    "envoy.service.runtime.v3.rtds_pb2",
    "envoy.type.matcher.v3.http_inputs_pb2",
)


def main() -> None:
    """Write the file."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    found: dict[str, FileDescriptorProto] = {}

    def add(file: Any) -> None:
        if file.name in found:
            return
        for each in file.dependencies:
            add(each)
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        found[file.name] = proto

    for name in MODULES:
        add(import_module(name).DESCRIPTOR)
    data = FileDescriptorSet(file=list(found.values())).SerializeToString(deterministic=True)
    PLACE.write_bytes(zlib.compress(data, 9))
    print(f"{PLACE.name}: {len(found)} files, {PLACE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
