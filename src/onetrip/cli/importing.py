"""`onetrip import`: another proxy's configuration as an onetrip.yaml, and what became of it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.errors import ConfigError, OnetripError

if TYPE_CHECKING:
    from onetrip.cli.imports.draft import Draft, RegionMap
    from onetrip.cli.imports.report import Report

INCOMPLETE = 4
"""Exit code when something was left out."""

imports = typer.Typer(
    help="Make an onetrip.yaml of another proxy's configuration.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="Configuration to read.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else stdout.")]
Region = Annotated[str | None, typer.Option("--region", help="Region of the instances.")]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="NETWORK=REGION or HOST=REGION (.example.net=den); repeatable."),
]
Host = Annotated[
    list[str] | None, typer.Option("--host", help="Host of sites without a name; repeatable.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Write nothing unless all is carried over as it was.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output file.")]
Json = Annotated[bool, typer.Option("--json", help="Print result and report as JSON.")]


@imports.command("nginx")
def nginx(
    file: File,
    output: Output = None,
    region: Region = None,
    mapped: Map = None,
    host: Host = None,
    strict: Strict = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read an nginx configuration (nginx.conf, or one file of conf.d) and what it includes."""
    from onetrip.cli.imports.draft import RegionMap
    from onetrip.cli.imports.nginx import import_nginx

    regions = RegionMap.parse(region, mapped or ())
    draft = import_nginx(file, host or ())
    _finish(draft, file, regions, output, strict=strict, force=force, as_json=as_json)


@imports.command("caddy")
def caddy(
    file: File,
    output: Output = None,
    region: Region = None,
    mapped: Map = None,
    host: Host = None,
    strict: Strict = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read a Caddyfile (by `caddy adapt` where that is on PATH), or Caddy's JSON."""
    from onetrip.cli.imports.caddy import import_caddy
    from onetrip.cli.imports.draft import RegionMap

    regions = RegionMap.parse(region, mapped or ())
    draft = import_caddy(file, host or ())
    _finish(draft, file, regions, output, strict=strict, force=force, as_json=as_json)


def _finish(
    draft: Draft,
    file: Path,
    regions: RegionMap,
    output: Path | None,
    *,
    strict: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Check the result, write it, tell the report, and leave with the exit code."""
    from onetrip.cli.imports.report import text

    try:
        content = render(draft, file, regions)
    except ConfigError:
        print(text(draft.report), file=sys.stderr)
        raise
    is_refused = strict and not draft.report.is_exact
    if not is_refused and output is not None:
        _write(output, content, force)
    if as_json:
        print(as_document(draft.report, content, output, is_refused))
    else:
        print(text(draft.report), file=sys.stderr)
        if output is None and not is_refused:
            print(content, end="")
    if is_refused:
        raise OnetripError("--strict: not everything could be carried over as it was")
    sys.stdout.flush()
    if not draft.report.is_complete:
        raise typer.Exit(INCOMPLETE)


def render(draft: Draft, file: Path, regions: RegionMap) -> str:
    """Return the draft as a configuration file that `onetrip check` takes.

    Raises:
        ConfigError: nothing can be served, or the result would not be taken.
    """
    import yaml

    from onetrip.cli.imports.draft import document

    data = document(draft, regions)
    names = list(data["regions"])
    body = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    content = f"# Made of {file.name} by `onetrip import`; keys: docs/configuration.md\n{body}"
    with tempfile.TemporaryDirectory(prefix="onetrip-import-") as folder:
        path = Path(folder) / "onetrip.yaml"
        path.write_text(content, encoding="utf-8")
        for name in names:
            _check(path, name)
    return content


def _check(path: Path, region: str) -> None:
    from onetrip.app.config import load_settings

    try:
        load_settings(path, region)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ConfigError(f"the result cannot be used: {reason}") from error


def as_document(report: Report, content: str, output: Path | None, is_refused: bool) -> str:
    """Return result and report as JSON."""
    import msgspec

    body = {
        "config": None if is_refused else content,
        "output": None if output is None or is_refused else str(output),
        "complete": report.is_complete,
        "exact": report.is_exact,
        "findings": report.findings,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()


def _write(output: Path, content: str, force: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with open(os.open(output, flags, 0o644), "w", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError as error:
        raise ConfigError(f"{output} exists; give --force to replace it") from error
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
