"""Commands about the versions of a project's override."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.options import Api, AsJson, DryRun, ProjectName, TokenFile, make_client, show

if TYPE_CHECKING:
    from onetrip.control.rollback import VersionsBody


def versions(
    name: ProjectName,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 30,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the overrides of a project that were in force, newest first."""
    from onetrip.control.rollback import VersionsBody

    client = make_client(api, token_file)
    body = client.get(("projects", name, "versions"), VersionsBody, {"limit": str(limit)})
    show(body, versions_text, as_json)


def rollback(
    name: ProjectName,
    version: Annotated[int, typer.Argument(min=0, help="Version; 0 is the configuration.")],
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Put an earlier override of a project in force again."""
    from onetrip.cli import render
    from onetrip.control.schemas import ProjectBody

    client, order = make_client(api, token_file), {"version": version}
    path = ("projects", name, "rollback")
    body = client.post(path, ProjectBody, order, is_dry_run=dry_run)
    show(body, render.project, as_json)


def versions_text(body: VersionsBody) -> str:
    """Return the list of versions; what stands as configured is a dash."""
    from onetrip.cli.render import DASH, instant, plain, table

    rows = [
        (
            str(row.version),
            instant(row.at),
            plain(row.origin),
            row.mode or DASH,
            DASH if row.hint is None else plain(row.hint) or "none",
            DASH if row.control is None else f"{row.control:g}",
            DASH if row.explore is None else f"{row.explore:g}",
            DASH if row.share is None else f"{row.share:g}",
        )
        for row in body.versions
    ]
    heads = ("VERSION", "TIME", "BY", "PLACEMENT", "HINT", "CONTROL", "EXPLORE", "SHARE")
    return table(heads, rows)
