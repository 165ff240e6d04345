"""Commands about deployments: make one and see it through, list, roll out, roll back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetrip.cli.client import DEFAULT_API, Client
from onetrip.cli.completing import complete_deployment, complete_environment
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
from onetrip.errors import ApiError, ConfigError
from onetrip.timing import MonotonicClock, pause

if TYPE_CHECKING:
    from onetrip.control.deployments import (
        DeploymentBody,
        EnvironmentRelease,
    )

CLOCK = MonotonicClock()

POLL = 0.5
"""Between two looks at a deployment that is being checked, s."""

UPLOAD_TIMEOUT = 120.0

Id = Annotated[str, typer.Argument(help="Deployment.", autocompletion=complete_deployment)]

Folder = Annotated[Path | None, typer.Argument(help="Files that every edge sends itself.")]
Instances = Annotated[
    list[str] | None,
    typer.Option("--instance", "-i", help="REGION=HOST:PORT; may be given many times."),
]
OfBranch = Annotated[
    str,
    typer.Option(
        "--environment",
        "-e",
        help="Else the branch decides.",
        autocompletion=complete_environment,
    ),
]
Branch = Annotated[str | None, typer.Option(help="Else what git says.")]
Commit = Annotated[str | None, typer.Option(help="Else what git says.")]
Message = Annotated[str, typer.Option("--message", "-m", help="For people.")]
Date = Annotated[str | None, typer.Option(help="YYYY-MM-DD it was made for; else today.")]
Protocol = Annotated[str, typer.Option(help="http1, h2 or auto.")]
HealthPath = Annotated[str | None, typer.Option(help="Path of the health check.")]
Capacity = Annotated[int | None, typer.Option(min=1, help="Requests an instance runs.")]
Promote = Annotated[
    bool, typer.Option("--promote/--no-promote", help="Have it serve once it is ready.")
]
Share = Annotated[str | None, typer.Option(help="Give it only this share of the requests: 10%.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="See it through.")]
Timeout = Annotated[float, typer.Option(min=1, help="Longest wait, s.")]

deployments = typer.Typer(help="List, show and delete deployments.", no_args_is_help=True)


def deploy(
    name: OfProject,
    folder: Folder = None,
    instance: Instances = None,
    environment: OfBranch = "",
    branch: Branch = None,
    commit: Commit = None,
    message: Message = "",
    compatibility_date: Date = None,
    protocol: Protocol = "http1",
    health_path: HealthPath = None,
    capacity: Capacity = None,
    promote: Promote = True,
    share: Share = None,
    wait: Wait = True,
    timeout: Timeout = 300.0,
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a deployment of instances, files or both, and wait until it serves."""
    from onetrip.cli.deployment_text import deployment_text
    from onetrip.control.deployments import DeploymentBody

    client = make_client(api, token_file, UPLOAD_TIMEOUT)
    place = folder or Path()
    ratio = None if share is None else share_of(share)
    order: dict[str, Any] = {
        "environment": environment,
        "branch": _told(branch, place, "rev-parse", "--abbrev-ref", "HEAD"),
        "commit": _told(commit, place, "rev-parse", "HEAD"),
        "message": message,
        "compatibility_date": compatibility_date or today(),
        "instances": instances_of(instance or []),
        "protocol": protocol,
        "health_path": health_path,
        "capacity": capacity,
        "promote": promote and ratio is None,
    }
    if folder is not None:
        order["assets"] = _upload(client, name, folder, is_dry_run=dry_run)
    path = ("projects", name, "deployments")
    body = client.post(path, DeploymentBody, order, is_dry_run=dry_run)
    if wait and not dry_run:
        body = _see_through(client, body, timeout, is_quiet=as_json, promotes=order["promote"])
        if ratio is not None and body.status == "ready":
            _roll_out(client, name, body.environment, body.id, ratio)
            body = client.get((*path, body.id), DeploymentBody, {})
    show(body, deployment_text, as_json)
    if wait and not dry_run and body.status != "ready":
        raise ApiError(f"deployment {body.id} is {body.status}")


@deployments.command("list")
def deployments_list(
    name: OfProject,
    environment: Annotated[str | None, typer.Option("--environment", "-e", help="Of it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 30,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the deployments of a project, newest first."""
    from onetrip.cli.deployment_text import deployments_text
    from onetrip.control.deployments import DeploymentsBody

    query = {"environment": environment, "limit": str(limit)}
    client = make_client(api, token_file)
    body = client.get(("projects", name, "deployments"), DeploymentsBody, query)
    show(body, deployments_text, as_json)


@deployments.command("show")
def deployments_show(
    name: OfProject,
    id: Id,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a deployment: what it is made of, what each region found, where it is reached."""
    from onetrip.cli.deployment_text import deployment_text
    from onetrip.control.deployments import DeploymentBody

    client = make_client(api, token_file)
    body = client.get(("projects", name, "deployments", id), DeploymentBody, {})
    show(body, deployment_text, as_json)


@deployments.command("delete")
def deployments_delete(
    name: OfProject,
    id: Id,
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Delete a deployment that serves nothing but its own host."""
    path = ("projects", name, "deployments", id)
    make_client(api, token_file).delete(path, is_dry_run=dry_run)


@deployments.command("rollout")
def rollout(
    name: OfProject,
    id: Id,
    share: Annotated[str, typer.Argument(help="Of the requests: 10%; 100% promotes.")] = "100%",
    environment: OfEnvironment = "production",
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a deployment a share of its environment's requests; all of them make it current."""
    from onetrip.cli.deployment_text import environment_text

    client = make_client(api, token_file)
    body = _roll_out(client, name, environment, id, share_of(share), is_dry_run=dry_run)
    show(body, environment_text, as_json)


@deployments.command("rollback")
def rollback(
    name: OfProject,
    id: Annotated[
        str | None,
        typer.Argument(help="Deployment; else the one before.", autocompletion=complete_deployment),
    ] = None,
    environment: OfEnvironment = "production",
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Have an earlier deployment serve again, at once."""
    from onetrip.cli.deployment_text import environment_text
    from onetrip.control.deployments import EnvironmentRelease

    path = ("projects", name, "environments", environment, "rollback")
    order = {"deployment": id}
    client = make_client(api, token_file)
    show(
        client.post(path, EnvironmentRelease, order, is_dry_run=dry_run), environment_text, as_json
    )


def today() -> str:
    """Return the date of this moment, UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(CLOCK.wall(), UTC).date().isoformat()


def instances_of(texts: list[str]) -> dict[str, list[str]]:
    """Return the addresses of `REGION=HOST:PORT` by region.

    Raises:
        ConfigError: one is not written so.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        region, sign, address = text.partition("=")
        if not sign or not region or not address:
            raise ConfigError(f"--instance {text[:80]!r} is not REGION=HOST:PORT")
        found.setdefault(region, []).append(address)
    return found


def share_of(text: str) -> float:
    """Return a share such as `10%` or `0.1` as a ratio.

    Raises:
        ConfigError: it is none, or not in 0-100%.
    """
    number = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)", text)
    ratio = float(number[1]) / (100 if number[2] else 1) if number else -1.0
    if not 0 <= ratio <= 1:
        raise ConfigError(f"share {text[:20]!r} is not in 0%-100% (or 0-1)")
    return ratio


def _told(given: str | None, folder: Path, *arguments: str) -> str:
    from onetrip.cli.packing import git_fact

    if given is not None:
        return given
    said = git_fact(folder, *arguments)
    return "" if said == "HEAD" else said  # no branch is checked out


def _upload(client: Client, name: str, folder: Path, *, is_dry_run: bool) -> str:
    from hashlib import sha256

    from onetrip.cli.packing import pack
    from onetrip.control.deployments import AssetsBody

    data = pack(folder)
    if is_dry_run:
        return sha256(data).hexdigest()
    return client.upload(("projects", name, "assets"), AssetsBody, data).assets


def _roll_out(
    client: Client, name: str, environment: str, id: str, share: float, *, is_dry_run: bool = False
) -> EnvironmentRelease:
    from onetrip.control.deployments import EnvironmentRelease

    path = ("projects", name, "environments", environment, "rollout")
    order = {"deployment": id, "share": share}
    return client.put(path, EnvironmentRelease, order, is_dry_run=is_dry_run)


def _see_through(
    client: Client, body: DeploymentBody, timeout: float, *, is_quiet: bool, promotes: bool
) -> DeploymentBody:
    """Wait until a deployment is ready (and serves, if it shall) or has failed."""
    from onetrip.cli.progress import Progress
    from onetrip.control.deployments import DeploymentBody

    path = ("projects", body.project, "deployments", body.id)
    deadline = CLOCK.now() + timeout
    with Progress(f"deployment {body.id}", is_quiet=is_quiet) as progress:
        while body.status == "checking" or (
            body.status == "ready" and promotes and not body.is_current
        ):
            if CLOCK.now() > deadline:
                raise ApiError(f"deployment {body.id} is {body.status} after {timeout:g} s")
            done = sum(row.status != "checking" for row in body.checks)
            progress.show(done, len(body.checks), body.status)
            pause(POLL)
            body = client.get(path, DeploymentBody, {})
        progress.show(len(body.checks), len(body.checks), body.status)
    return body
