"""`onetrip relay`: options to settings, the process around the relay, and its signals."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API, Client
from onetrip.cli.secret import read_token
from onetrip.errors import ConfigError
from onetrip.model.catalog import BackendKind
from onetrip.model.topology import Endpoint, parse_endpoint

if TYPE_CHECKING:
    from onetrip.relay.route_settings import RouteSettings


class RelayKind(StrEnum):
    """Protocols that can be relayed."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    REDIS = "redis"


def relay(
    kind: Annotated[RelayKind, typer.Argument(help="Protocol of the database.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT that applications connect to.")],
    backend: Annotated[str, typer.Option(help="The backend's name in the node's configuration.")],
    to: Annotated[str, typer.Option(help="HOST:PORT of the database.")] = "",
    route: Annotated[
        Path | None,
        typer.Option(help="File with a primary and its replicas, instead of --to (postgres)."),
    ] = None,
    report: Annotated[str, typer.Option(help="Admin API of this region's node.")] = DEFAULT_API,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the API's token (else ONETRIP_TOKEN).")
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="HOST:PORT of its own metrics, on loopback; none unless set.")
    ] = "",
    project: Annotated[
        str, typer.Option(help="The only project that connects through this relay.")
    ] = "",
    max_connections: Annotated[int, typer.Option(help="Most client connections.")] = 1000,
    connect_timeout: Annotated[float, typer.Option(help="To the database, s.")] = 5.0,
    idle_timeout: Annotated[float, typer.Option(help="Silence that ends a connection, s.")] = (
        28_800.0
    ),
    drain_timeout: Annotated[float, typer.Option(help="Longest wait when told to stop, s.")] = 10.0,
) -> None:
    """Relay a database's connections and count their round trips (docs/relay.md)."""
    from onetrip.relay.settings import RelaySettings

    routes, target = _targets(kind, to, route)
    settings = RelaySettings(
        kind=BackendKind(kind.value),
        listen=_address("--listen", listen),
        target=target,
        backend=backend,
        project=project,
        connect_timeout=connect_timeout,
        idle_timeout=idle_timeout,
        drain_timeout=drain_timeout,
        max_connections=max_connections,
        metrics=_address("--metrics", metrics) if metrics else None,
    )
    token = read_token(token_file)
    _check_api(report, token)
    from onetrip.relay.run import run

    sys.exit(run(settings, report, token, routes))


def _targets(kind: RelayKind, to: str, route: Path | None) -> tuple[RouteSettings | None, Endpoint]:
    if (route is None) == (not to):
        raise ConfigError("set one of --to and --route")
    if route is None:
        return None, _address("--to", to)
    if kind is not RelayKind.POSTGRES:
        raise ConfigError(f"--route: only postgres is routed, not {kind.value}")
    from onetrip.app.config_route import load_route

    found = load_route(route)
    return found, found.endpoints[0].at


def _check_api(url: str, token: str | None) -> None:
    # The client refuses what could not be used; it knows the URL by another option's name.
    try:
        Client(url, token)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--api", "--report")) from error


def _address(option: str, text: str) -> Endpoint:
    try:
        found = parse_endpoint(text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from error
    if "://" in text:
        raise ConfigError(f"{option}: {text!r} is not host:port")
    return found
