"""Commands about who may use the admin API, and who did what with it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.options import Api, AsJson, TokenFile, make_client, show
from onetrip.errors import ConfigError

if TYPE_CHECKING:
    from onetrip.control.access import AuditBody, TokensBody

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

token = typer.Typer(help="Make, list and revoke tokens of the admin API.", no_args_is_help=True)

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Token.")]


class ScopeName(StrEnum):
    """Values of `--scope`; each includes those before it."""

    READ = "read"
    OPERATE = "operate"
    WRITE = "write"
    ADMIN = "admin"


@token.command("create")
def token_create(
    name: TokenName,
    scope: Annotated[ScopeName, typer.Option(help="What it permits.")] = ScopeName.READ,
    project: Annotated[str, typer.Option(help="The only project it may be used for.")] = "",
    expires: Annotated[
        str | None, typer.Option(help="Time until it expires: 30d, 12h, 45m.")
    ] = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, once: the node keeps only its digest."""
    from onetrip.control.access import NewTokenBody

    order = {
        "name": name,
        "scope": scope.value,
        "project": project,
        "expires_in": None if expires is None else seconds(expires),
    }
    body = make_client(api, token_file).post(("tokens",), NewTokenBody, order)
    show(body, lambda found: found.secret, as_json)


@token.command("list")
def token_list(
    api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """List the tokens: what each permits, until when, and its last use."""
    from onetrip.control.access import TokensBody

    body = make_client(api, token_file).get(("tokens",), TokensBody, {})
    show(body, tokens_text, as_json)


@token.command("revoke")
def token_revoke(
    name: TokenName,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Revoke a token: its next request is refused."""
    make_client(api, token_file).delete(("tokens", name))


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 30,
    cursor: Annotated[str | None, typer.Option(help="Go on from here.")] = None,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the changes that were made, newest first, and who made them."""
    from onetrip.control.access import AuditBody

    query = {"limit": str(limit), "cursor": cursor}
    body = make_client(api, token_file).get(("audit",), AuditBody, query)
    show(body, audit_text, as_json)


def seconds(text: str) -> float:
    """Return a length of time such as `30d`, s.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise ConfigError(f"--expires {text[:40]!r} is no time such as 30d, 12h, 45m or 90s")
    return float(int(found[1]) * _UNITS[found[2]])


def tokens_text(body: TokensBody) -> str:
    """Return the list of tokens."""
    from onetrip.cli.render import DASH, instant, plain, table

    rows = [
        (
            plain(row.name),
            row.scope,
            plain(row.project) or DASH,
            instant(row.created_at),
            instant(row.expires_at) if row.expires_at is not None else "never",
            instant(row.used_at) if row.used_at is not None else "never",
        )
        for row in body.tokens
    ]
    return table(("NAME", "SCOPE", "PROJECT", "CREATED", "EXPIRES", "LAST USE"), rows)


def audit_text(body: AuditBody) -> str:
    """Return the list of changes, with the cursor of the next page below it."""
    import msgspec

    from onetrip.cli.render import DASH, instant, plain, table

    def side(value: object) -> str:
        return DASH if value is None else plain(msgspec.json.encode(value).decode())

    rows = [
        (
            instant(row.at),
            plain(row.caller),
            row.operation,
            plain(row.subject),
            f"{side(row.before)} -> {side(row.after)}",
        )
        for row in body.changes
    ]
    text = table(("TIME", "CALLER", "DONE", "TO", "CHANGE"), rows)
    return text if body.next is None else f"{text}\nmore: --cursor {body.next}"
