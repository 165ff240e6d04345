"""`onetrip advise`: where each route should run, and where the next replica of each backend."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.options import Api, AsJson, TokenFile, make_client, show
from onetrip.cli.render import ms, percent, plain, table
from onetrip.timing import MonotonicClock

if TYPE_CHECKING:
    from onetrip.control.advice import BackendAdviceRow, ReplicaAdviceBody

SETTLE = 1.5
"""Seconds between the last line told and the question, two rounds of scoring."""

advise = typer.Typer(help="Tell where each route should run, and what else is worth changing.")


@advise.callback(invoke_without_command=True)
def routes(
    context: typer.Context,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    log: Annotated[
        str | None,
        typer.Option(
            help="Access log of another proxy to learn from first; - reads it as it comes."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Host of requests whose log line has none.")] = "",
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell where each route should run and what that saves, or what is missing to know."""
    if context.invoked_subcommand is not None:
        return
    from onetrip.cli.route_advice import route_advice
    from onetrip.control.route_advice import RouteAdviceBody

    client = make_client(api, token_file)
    if log is not None:
        from onetrip.cli.telling import tell

        print(f"onetrip: {tell(client, log, host).text()}", file=sys.stderr)
        asyncio.run(MonotonicClock().sleep(SETTLE))
    body = client.get(("advice",), RouteAdviceBody, {"project": project})
    show(body, route_advice, as_json)


@advise.command()
def replicas(
    project: Annotated[str | None, typer.Option(help="Only the traffic of this project.")] = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell where the next replica, or the primary, of each backend should be, and why."""
    from onetrip.control.advice import ReplicaAdviceBody

    client = make_client(api, token_file)
    body = client.get(("advice", "replicas"), ReplicaAdviceBody, {"project": project})
    show(body, text, as_json)


def text(body: ReplicaAdviceBody) -> str:
    """Return a paragraph for each backend."""
    if not body.backends:
        return "no backend is bound"
    return "\n\n".join("\n".join(_lines(row)) for row in body.backends)


def _lines(row: BackendAdviceRow) -> list[str]:
    primary = "primary"
    if row.primary_endpoint not in ("", row.backend):  # since a failover
        primary += f" {plain(row.primary_endpoint)}"
    places = [f"{primary} in {plain(row.primary or '?')}"]
    places += [f"{plain(r.name)} in {plain(r.region or '?')}" for r in row.replicas]
    title = f"{plain(row.backend)}: {', '.join(places)}"
    if row.missing:
        return [title, f"  {plain(row.missing)}"]
    writes = percent(row.write_ratio or 0.0)
    lines = [
        title,
        f"  now: {ms(row.latency_ms, True)} a request over {row.requests:,} requests, "
        f"{writes} of which may write",
    ]
    if row.nearest_ms is not None:
        lines.append(f"  with reads: nearest of what there is: {ms(row.nearest_ms, True)}")
    if row.plans:
        heads = ("", "ADD REPLICAS IN", ">THEN ms", ">SAVING ms", ">SYNC COMMIT ms")
        cells = (
            (
                "",
                ", ".join(plain(region) for region in plan.regions),
                ms(plan.latency_ms),
                ms(plan.saving_ms),
                f"+{ms(plan.commit_wait_ms)}",
            )
            for plan in row.plans
        )
        lines += table(heads, cells).split("\n")
    else:
        lines.append("  no further replica would save anything")
    if row.move is not None:
        lines.append(
            f"  or move the primary to {plain(row.move.region)}: {ms(row.move.latency_ms, True)}, "
            f"saving {ms(row.move.saving_ms, True)}"
        )
    return lines
