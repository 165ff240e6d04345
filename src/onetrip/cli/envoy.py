"""`onetrip envoy`: what an Envoy needs to follow a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from onetrip.errors import ConfigError

envoy = typer.Typer(help="Let Envoy serve the requests.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", "-c", help="Configuration file (YAML).")]
RegionName = Annotated[str | None, typer.Option("--region", help="Region of the node.")]


@envoy.callback()
def group() -> None:
    """Let Envoy serve the requests."""


@envoy.command()
def bootstrap(config: Config, region: RegionName = None) -> None:
    """Print the bootstrap configuration of the region's Envoy: `envoy -c FILE`."""
    from onetrip.app.config import load_settings
    from onetrip.app.envoy import bootstrap_of

    try:
        body = bootstrap_of(load_settings(config, region))
    except ConfigError as error:
        typer.echo(f"onetrip: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(json.dumps(body, indent=2))
