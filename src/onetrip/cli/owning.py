"""Commands about what a project owns: itself, its domains, its bindings, its environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.options import (
    Api,
    AsJson,
    DryRun,
    OfEnvironment,
    OfProject,
    TokenFile,
    make_client,
    show,
)

if TYPE_CHECKING:
    from onetrip.control.deployments import DomainsBody, EnvironmentRelease, EnvironmentsBody

Binding = Annotated[str, typer.Argument(help="Name that the application knows it by.")]
Host = Annotated[str, typer.Argument(help="Host name, such as shop.example.com.")]

domain = typer.Typer(help="Host names that lead to a project.", no_args_is_help=True)


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1-32 of a-z, 0-9 and -.")],
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a project, with the environments production and preview."""
    from onetrip.cli import render
    from onetrip.control.schemas import ProjectBody

    client = make_client(api, token_file)
    body = client.post(("projects",), ProjectBody, {"name": name}, is_dry_run=dry_run)
    show(body, render.project, as_json)


def delete(
    name: OfProject,
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Delete a project that was made through the API, with all its deployments."""
    make_client(api, token_file).delete(("projects", name), is_dry_run=dry_run)


def environments(
    name: OfProject,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the environments of a project, their bindings, and what serves them."""
    from onetrip.control.deployments import EnvironmentsBody

    client = make_client(api, token_file)
    show(client.get(("projects", name, "environments"), EnvironmentsBody, {}), text_of, as_json)


def bind(
    name: OfProject,
    binding: Binding,
    backend: Annotated[str, typer.Argument(help="Backend of the configuration.")],
    environment: OfEnvironment = "production",
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Bind a database or other backend to an environment."""
    from onetrip.control.deployments import EnvironmentRelease

    path = ("projects", name, "environments", environment, "bindings", binding)
    order, client = {"backend": backend}, make_client(api, token_file)
    show(client.put(path, EnvironmentRelease, order, is_dry_run=dry_run), bindings_text, as_json)


def unbind(
    name: OfProject,
    binding: Binding,
    environment: OfEnvironment = "production",
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Take a binding away from an environment."""
    path = ("projects", name, "environments", environment, "bindings", binding)
    make_client(api, token_file).delete(path, is_dry_run=dry_run)


@domain.command("add")
def domain_add(
    name: OfProject,
    host: Host,
    environment: OfEnvironment = "production",
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Have a host name lead to an environment of a project."""
    from onetrip.control.deployments import DomainsBody

    order = {"host": host, "environment": environment}
    path, client = ("projects", name, "domains"), make_client(api, token_file)
    show(client.post(path, DomainsBody, order, is_dry_run=dry_run), domains_text, as_json)


@domain.command("list")
def domain_list(
    name: OfProject,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the host names that lead to a project, and their certificates."""
    from onetrip.control.deployments import DomainsBody

    client = make_client(api, token_file)
    show(client.get(("projects", name, "domains"), DomainsBody, {}), domains_text, as_json)


@domain.command("remove")
def domain_remove(
    name: OfProject,
    host: Host,
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Take a host name away from a project."""
    path = ("projects", name, "domains", host)
    make_client(api, token_file).delete(path, is_dry_run=dry_run)


def domains_text(body: DomainsBody) -> str:
    """Return the list of domains."""
    from onetrip.cli.render import DASH, plain, table

    rows = [
        (
            plain(row.host),
            plain(row.environment),
            "configuration" if row.is_configured else "API",
            row.certificate or DASH,
        )
        for row in body.domains
    ]
    return table(("HOST", "ENVIRONMENT", "FROM", "CERTIFICATE"), rows)


def text_of(body: EnvironmentsBody) -> str:
    """Return the list of environments."""
    from onetrip.cli.render import DASH, percent, plain, table

    rows = [
        (
            plain(row.name),
            plain(row.deployment) or DASH,
            f"{row.candidate} {percent(row.share)}" if row.candidate else DASH,
            ", ".join(f"{plain(b)}={plain(t)}" for b, t in row.bindings.items()) or DASH,
            ", ".join(map(plain, row.hosts)) or DASH,
        )
        for row in body.environments
    ]
    return table(("ENVIRONMENT", "SERVES", "ROLLED OUT", "BINDINGS", "HOSTS"), rows)


def bindings_text(body: EnvironmentRelease) -> str:
    """Return the bindings of an environment."""
    from onetrip.cli.render import plain, table

    rows = [(plain(name), plain(backend)) for name, backend in body.bindings.items()]
    return table(("BINDING", "BACKEND"), rows)
