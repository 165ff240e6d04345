"""Commands that show what was measured and decided."""

from __future__ import annotations

from typing import Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.completing import complete_region
from onetrip.cli.options import Api, AsJson, OfProject, TokenFile, make_client, show

Edge = Annotated[
    str | None,
    typer.Option(help="Only as seen from this region.", autocompletion=complete_region),
]


def explain(
    name: OfProject,
    edge: Edge = None,
    route: Annotated[str | None, typer.Option(help="Only this route, as it is listed.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Explain where each route of a project runs, and why, term by term."""
    from onetrip.cli import explain as text
    from onetrip.control.schemas import ExplainBody, LatenciesBody

    client = make_client(api, token_file)
    query = {"edge": edge, "route": route, "environment": environment}
    body = client.get(("projects", name, "explain"), ExplainBody, query)
    if as_json:
        show(body, str, as_json)
        return
    measured = client.get(("latencies",), LatenciesBody, {"project": name})
    show(body, lambda found: text.explain(found, measured.latencies), as_json)


def what_if(
    name: OfProject,
    edge: Edge = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what smart placement would save, per route and city, before turning it on."""
    from onetrip.cli import whatif as text
    from onetrip.control.whatif import WhatIfBody

    client = make_client(api, token_file)
    body = client.get(("projects", name, "whatif"), WhatIfBody, {"edge": edge})
    show(body, text.what_if, as_json)


def latencies(
    name: Annotated[str | None, typer.Argument(metavar="PROJECT", help="Only this one.")] = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show measured latencies by route, edge and arm."""
    from onetrip.cli import render
    from onetrip.control.schemas import LatenciesBody

    body = make_client(api, token_file).get(("latencies",), LatenciesBody, {"project": name})
    show(body, render.latencies, as_json)


def certs(api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """List the certificates that clients get: issuer, end, next renewal, last error."""
    from onetrip.cli import certificates as text
    from onetrip.control.certificates import CertificatesBody

    body = make_client(api, token_file).get(("certificates",), CertificatesBody, {})
    show(body, text.certificates, as_json)
