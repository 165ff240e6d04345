"""The `onetrip` command.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 admin API unreachable,
4 an import left something out.
Every failure is one line on standard error, with `--json` an object. Imports of anything heavy
happen inside the command that needs it, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

import onetrip
from onetrip.cli import (
    access,
    advise,
    deploying,
    envoy,
    events,
    importing,
    operate,
    owning,
    reading,
    top,
    versions,
    webhooks,
)
from onetrip.cli.client import DEFAULT_API, UnreachableError
from onetrip.cli.options import Api, AsJson, DryRun, ProjectName, TokenFile, make_client, show
from onetrip.cli.relay import relay
from onetrip.errors import ConfigError, Kind, OnetripError

T = TypeVar("T")

app = typer.Typer(
    help="Smart placement routing proxy: run each request where its latency is least.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
project = typer.Typer(help="List, show and change projects.", no_args_is_help=True)
app.add_typer(project, name="project")
app.add_typer(access.token, name="token")
app.add_typer(webhooks.webhook, name="webhook")
app.add_typer(envoy.envoy, name="envoy")
app.add_typer(advise.advise, name="advise")
app.add_typer(importing.imports, name="import")
app.add_typer(deploying.deployments, name="deployments")
app.add_typer(owning.domain, name="domain")

Config = Annotated[Path, typer.Option("--config", "-c", help="Configuration file (YAML).")]
RegionName = Annotated[str | None, typer.Option("--region", help="Region this node is in.")]


class Switch(StrEnum):
    """Values of `--placement`."""

    SMART = "smart"
    OFF = "off"


@app.command()
def run(
    config: Config,
    region: RegionName = None,
    advise: Annotated[
        bool, typer.Option("--advise", help="Measure and advise, and take no traffic.")
    ] = False,
) -> None:
    """Run a node."""
    arguments = [str(config), *([region] if region is not None else [])]
    arguments += ["--advise"] if advise else []
    # Without docstrings and asserts a node takes 3 MB less; nothing at run time reads either.
    # Columns of instructions take another 0.3 MB; tracebacks in the log name lines alone.
    os.environ["PYTHONNODEBUGRANGES"] = "1"
    _become("onetrip.cli.launch", arguments, "-OO")


@app.command()
def check(config: Config, region: RegionName = None) -> None:
    """Check a configuration file."""
    from onetrip.app.config import load_settings

    load_settings(config, region)
    print(f"OK {config}")


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
def demo(context: typer.Context) -> None:
    """Start a small world on this machine and show a project move (`onetrip demo --help`)."""
    _become("onetrip_lab.demo", context.args)


@app.command()
def status(api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """Show a node and its cluster at a glance."""
    from onetrip.cli import render
    from onetrip.control.schemas import StatusBody

    body = make_client(api, token_file).get(("status",), StatusBody, {})
    show(body, render.status, as_json)


@app.command()
def regions(api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """List the regions and whether their nodes answer."""
    from onetrip.cli import render
    from onetrip.control.schemas import RegionsBody

    body = make_client(api, token_file).get(("regions",), RegionsBody, {})
    show(body, render.regions, as_json)


@app.command()
def rtts(api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """Show the RTT from every region to every other and to every backend."""
    from onetrip.cli import render
    from onetrip.control.schemas import RttsBody

    body = make_client(api, token_file).get(("rtts",), RttsBody, {})
    show(body, render.rtts, as_json)


@project.command("list")
def project_list(
    api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """List the projects."""
    from onetrip.cli import render
    from onetrip.control.projects import ProjectsBody

    client, place = make_client(api, token_file), ("projects",)
    body = client.get(place, ProjectsBody, {})
    while body.next is not None:
        page = client.get(place, ProjectsBody, {"cursor": body.next})
        body = ProjectsBody([*body.projects, *page.projects], page.total, page.next)
    show(body, render.projects, as_json)


@project.command("show")
def projectshow(
    name: ProjectName,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one project's policy, environments and bindings."""
    from onetrip.cli import render
    from onetrip.control.schemas import ProjectBody

    body = make_client(api, token_file).get(("projects", name), ProjectBody, {})
    show(body, render.project, as_json)


@project.command("set")
def project_set(
    name: ProjectName,
    placement: Annotated[Switch | None, typer.Option(help="The toggle.")] = None,
    hint: Annotated[
        str | None, typer.Option(help="Pin to this region; 'none' clears the pin.")
    ] = None,
    control: Annotated[
        float | None, typer.Option(help="Share left at the default placement, 0-0.5.")
    ] = None,
    explore: Annotated[
        float | None, typer.Option(help="Share of reads that may explore, 0-0.5.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of requests that placement is on for, 0-1.")
    ] = None,
    dry_run: DryRun = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Change a project's policy, live."""
    from onetrip.cli import render
    from onetrip.control.schemas import ProjectBody

    wanted: dict[str, Any] = {
        "mode": placement.value if placement is not None else None,
        "hint": "" if hint == "none" else hint,
        "control": control,
        "explore": explore,
        "share": share,
    }
    change = {key: value for key, value in wanted.items() if value is not None}
    if not change:
        options = "--placement, --hint, --share, --control or --explore"
        raise ConfigError(f"nothing to set: give {options}")
    client = make_client(api, token_file)
    order = {"placement": change}
    body = client.patch(("projects", name), order, ProjectBody, is_dry_run=dry_run)
    show(body, render.project, as_json)


app.command()(events.events)
app.command("whatif")(reading.what_if)
app.command("certificates")(reading.certs)
for command in (
    reading.explain,
    reading.latencies,
    deploying.deploy,
    owning.bind,
    owning.unbind,
    top.top,
    relay,
    operate.relays,
    access.audit,
    operate.drain,
    operate.reload,
    operate.upgrade,
):
    app.command()(command)
project.command()(owning.create)
project.command()(owning.delete)
project.command()(owning.environments)
project.command()(operate.purge)
project.command()(versions.versions)
project.command()(versions.rollback)


@app.command()
def simulate(
    matrix: Annotated[
        Path | None, typer.Option(help="RTTs between regions: square CSV, ms.")
    ] = None,
    scenario: Annotated[Path | None, typer.Option(help="Scenario file (YAML).")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs, each with a seed.")] = 1,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests a run.")] = None,
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds a run.")] = None,
    log: Annotated[Path | None, typer.Option(help="Replay this access log (JSON lines).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write CSV and plots to this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate the placer on a virtual clock, against other policies and the oracle."""
    from onetrip.cli.simulate import Options
    from onetrip.cli.simulate import simulate as run_simulation

    print(run_simulation(Options(matrix, scenario, log, out, seeds, requests, duration, as_json)))


@app.command()
def version() -> None:
    """Print the version."""
    print(f"onetrip {onetrip.__version__}")


def main() -> NoReturn:
    """Run the command line; never returns and never shows a traceback for a known failure."""
    try:
        app(prog_name="onetrip")
    except UnreachableError as error:
        _fail(error, 3)
    except ConfigError as error:
        _fail(error, 2)
    except BrokenPipeError:
        # The reader has gone (`onetrip events | head`); nothing is left to tell it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (OnetripError, OSError) as error:
        _fail(error, 1)
    sys.exit(0)


def _fail(error: Exception, code: int) -> NoReturn:
    """Tell on standard error what went wrong: in one line, or with --json as an object."""
    from onetrip.cli.render import plain

    message = plain(" ".join(str(error).split()))
    if "--json" in sys.argv:
        kind = error.kind.value if isinstance(error, OnetripError) else Kind.INTERNAL.value
        told = {
            "error": message,
            "kind": kind,
            "field": getattr(error, "field", ""),
            "exit_code": code,
        }
        print(json.dumps(told), file=sys.stderr)
    else:
        print(f"onetrip: {message}", file=sys.stderr)
    sys.exit(code)


def _become(module: str, arguments: list[str], *flags: str) -> NoReturn:
    """Replace this process, so that signals reach the module itself."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *flags, "-m", module, *arguments])


if __name__ == "__main__":
    main()
