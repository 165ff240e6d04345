"""What every command that talks to a node has in common: its options, its client, its output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from onetrip.cli.client import TIMEOUT, Client
from onetrip.cli.completing import complete_environment, complete_project
from onetrip.cli.secret import read_token

T = TypeVar("T")

Api = Annotated[str, typer.Option("--api", envvar="ONETRIP_API", help="Admin API of a node.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with the token (else ONETRIP_TOKEN).")
]
ProjectName = Annotated[
    str, typer.Argument(metavar="NAME", help="Project.", autocompletion=complete_project)
]
OfProject = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Project.", autocompletion=complete_project)
]
OfEnvironment = Annotated[
    str,
    typer.Option("--environment", "-e", help="Of it.", autocompletion=complete_environment),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and tell, but change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's reply as JSON.")]


def make_client(api: str, token_file: Path | None, timeout: float = TIMEOUT) -> Client:
    """Return a client of a node's admin API; raises as `Client` and `read_token`."""
    return Client(api, read_token(token_file), timeout)


def show(body: T, text: Callable[[T], str], as_json: bool) -> None:
    """Print a reply: as JSON, or as `text` makes it."""
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())
    else:
        print(text(body))
    sys.stdout.flush()
