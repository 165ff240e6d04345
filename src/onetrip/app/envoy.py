"""Envoy as the data plane, as configured: what it is told, and what it cannot do for us.

A feature that would silently be missing is refused: the error names the key and says what to do.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrip.app.listeners import Listener, parse_listener
from onetrip.app.schema import File, NodeEntry
from onetrip.errors import ConfigError
from onetrip.net.tls import node_name

if TYPE_CHECKING:
    from onetrip.app.config import Settings

_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Where most systems keep the authorities that they trust, if OpenSSL does not say."""


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """How a node drives its region's Envoys.

    Attributes:
        listen: where they follow the node's configuration and send their access log.
        admin: where Envoy's own admin interface shall listen, or None.
        trust_file: authorities that instances' certificates are checked against, on their machine.
    """

    listen: Listener
    admin: Listener | None
    trust_file: str
    files: tuple[str, str, str] | None
    """Authority, certificate and key of `cluster.tls`."""


def build_envoy(file: File, node: NodeEntry, folder: Path, region: str) -> EnvoySettings | None:
    """Return how Envoys are driven; None where the node serves by itself.

    Args:
        folder: what relative paths are relative to; `{region}` in a path stands for the region.

    Raises:
        ConfigError: something is wanted that they cannot do, or that is not safe.
    """
    if file.data_plane == "local":
        return None
    if find_spec("grpc") is None or find_spec("google.protobuf") is None:
        raise ConfigError("data_plane: needs packages of its own; install onetrip[envoy]")
    listen = parse_listener(node.envoy_listen or file.envoy.listen, "envoy.listen")
    if not listen.is_loopback and file.cluster.tls is None:
        raise ConfigError(
            f"envoy.listen: {listen.host} is not loopback, so cluster.tls is required"
        )
    _check_node(file)
    _check_projects(file)
    admin, tls = file.envoy.admin, file.cluster.tls

    def at(path: str) -> str:
        return str((folder / path.replace("{region}", region)).absolute())

    return EnvoySettings(
        listen=listen,
        admin=parse_listener(admin, "envoy.admin") if admin is not None else None,
        trust_file=file.envoy.trust_file or ssl.get_default_verify_paths().cafile or _AUTHORITIES,
        files=(at(tls.ca), at(tls.cert), at(tls.key)) if tls is not None else None,
    )


def bootstrap_of(settings: Settings) -> dict[str, Any]:
    """Return the bootstrap of an Envoy that follows the node of these settings.

    Raises:
        ConfigError: the node serves by itself.
    """
    from onetrip.xds.bootstrap import Bootstrap, Identity  # only this command needs it

    envoy = settings.envoy
    if envoy is None:
        raise ConfigError(f"{settings.path}: data_plane: is not 'envoy'")
    admin, identity = envoy.admin, None
    if not envoy.listen.is_loopback and envoy.files is not None:
        identity = Identity(*envoy.files, node_name(settings.region))
    return Bootstrap(
        settings.region,
        (envoy.listen.host, envoy.listen.port),
        (admin.host, admin.port) if admin is not None else None,
        identity,
        settings.proxy.max_connections,
    ).body()


def _check_node(file: File) -> None:
    """Refuse what concerns all requests."""
    proxy, acme = file.proxy, file.tls.acme
    wanted = {
        "deployments": bool(file.deployments.domain or file.deployments.allow),
        "workers": file.workers not in (1, "auto"),
        "telemetry.otlp": file.telemetry.otlp is not None,
        "cluster.forward_listen": file.cluster.forward_listen is not None,
        "log.residency": file.log.residency != "off",
        "proxy.body_limit": proxy.body_limit is not None,
        "proxy.proxy_protocol": proxy.proxy_protocol != "off",
        "proxy.trusted_proxies": bool(proxy.trusted_proxies),
        "tls.acme.challenge": acme is not None and acme.challenge == "tls-alpn-01",
    }
    for key, is_wanted in wanted.items():
        if is_wanted:
            raise _unmapped(key)


def _check_projects(file: File) -> None:
    for name, project in file.projects.items():
        key = f"projects.{name}"
        if project.hedge is not None:
            raise _unmapped(f"{key}.hedge")
        if project.consistency.mode != "off":
            raise _unmapped(f"{key}.consistency")
        if project.cache.enabled:
            raise _unmapped(f"{key}.cache.enabled")
        if project.placement.forwarding == "node":
            raise ConfigError(
                f"{key}.placement.forwarding: with data_plane 'envoy' requests go straight to "
                "instances; leave it out or set 'direct'"
            )
        for label, environment in project.environments.items():
            if environment.assets is not None:
                raise _unmapped(f"{key}.environments.{label}.assets")


def _unmapped(key: str) -> ConfigError:
    return ConfigError(f"{key}: Envoy does not do this for onetrip; remove it or data_plane")
