"""Commands that operate a running node or look into it: drain, reload, upgrade, purge, relays."""

from __future__ import annotations

from typing import Annotated

import typer

from onetrip.cli.client import DEFAULT_API, UPGRADE_TIMEOUT
from onetrip.cli.options import Api, AsJson, DryRun, ProjectName, TokenFile, make_client, show


def drain(
    off: Annotated[bool, typer.Option("--off", help="End the drain.")] = False,
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Move requests away from a node's region, for as long as another can take them."""
    from onetrip.cli import render
    from onetrip.control.processes import DrainBody

    order = {"draining": not off}
    body = make_client(api, token_file).post(("drain",), DrainBody, order, is_dry_run=dry_run)
    show(body, render.drain, as_json)


def reload(
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a node read its configuration again."""
    from onetrip.control.schemas import ReloadBody

    body = make_client(api, token_file).post(("reload",), ReloadBody, is_dry_run=dry_run)
    show(body, lambda found: found.detail, as_json)


def purge(
    name: ProjectName,
    url: Annotated[str | None, typer.Option("--url", help="Only this URL.")] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Only URLs that begin like this.")
    ] = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Forget responses that a node keeps of a project; nodes of other regions keep theirs."""
    from onetrip.control.purging import PurgeBody

    wanted = {"url": url, "prefix": prefix}
    order = {key: value for key, value in wanted.items() if value is not None}
    body = make_client(api, token_file).post(("projects", name, "purge"), PurgeBody, order)
    show(body, lambda found: f"{found.purged} responses forgotten in {found.region}", as_json)


def upgrade(api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """Replace a running node by the version that is installed now; no connection is dropped."""
    from onetrip.control.processes import UpgradeBody

    body = make_client(api, token_file, UPGRADE_TIMEOUT).post(("upgrade",), UpgradeBody)
    show(body, lambda found: f"version {found.version} serves, process {found.pid}", as_json)


def relays(api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """Show what the database relays of a node's region counted, by backend and route."""
    from onetrip.cli import relays as text
    from onetrip.control.relays import RelaysBody

    body = make_client(api, token_file).get(("relays",), RelaysBody, {})
    show(body, text.relays, as_json)
