"""`onetrip webhook`: who is told about events, how that went, and a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.options import Api, AsJson, TokenFile, make_client, show

if TYPE_CHECKING:
    from onetrip.control.webhook_rows import DeliveriesBody, DeliveryRow, WebhooksBody

webhook = typer.Typer(help="List and test webhooks.", no_args_is_help=True)

TEST_TIMEOUT = 20.0
"""Longest wait for a test, s; twice what the node gives a receiver."""

Name = Annotated[str, typer.Argument(help="Name of a webhook.")]


@webhook.command("list")
def webhook_list(
    api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """List the webhooks of a node: state, messages that wait, last attempt."""
    from onetrip.control.webhook_rows import WebhooksBody

    show(make_client(api, token_file).get(("webhooks",), WebhooksBody, {}), listing, as_json)


@webhook.command("deliveries")
def webhook_deliveries(
    name: Name, api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """List the latest attempts at a receiver, newest first."""
    from onetrip.control.webhook_rows import DeliveriesBody

    path = ("webhooks", name, "deliveries")
    show(make_client(api, token_file).get(path, DeliveriesBody, {}), deliveries, as_json)


@webhook.command("test")
def webhook_test(
    name: Name, api: Api = DEFAULT_API, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Send a receiver a message now; exit code 1 if it does not arrive."""
    from onetrip.control.webhook_rows import DeliveryRow

    client = make_client(api, token_file, TEST_TIMEOUT)
    body = client.post(("webhooks", name, "test"), DeliveryRow)
    show(body, outcome, as_json)
    if not body.is_delivered:
        raise typer.Exit(1)


def listing(body: WebhooksBody) -> str:
    """Return the list of webhooks as text."""
    from onetrip.cli.render import DASH, instant, plain, table

    if not body.webhooks:
        return "no webhooks are configured"
    rows = [
        (
            plain(row.name),
            plain(row.url),
            row.state,
            str(row.pending),
            instant(row.next_at) if row.next_at is not None else DASH,
            outcome(row.last) if row.last is not None else DASH,
            plain(" ".join(row.events)),
        )
        for row in body.webhooks
    ]
    return table(("NAME", "URL", "STATE", "PENDING", "NEXT TRY", "LAST", "EVENTS"), rows)


def deliveries(body: DeliveriesBody) -> str:
    """Return attempts as text."""
    from onetrip.cli.render import instant, plain, table

    if not body.deliveries:
        return "nothing was delivered since the node started"
    rows = [
        (instant(row.at), plain(row.event), plain(row.id), str(row.attempt), outcome(row))
        for row in body.deliveries
    ]
    return table(("AT", "EVENT", "ID", "ATTEMPT", "OUTCOME"), rows)


def outcome(row: DeliveryRow) -> str:
    """Return how an attempt ended."""
    from onetrip.cli.render import plain

    if row.is_delivered:
        return f"delivered ({row.status}, {row.duration_ms:.0f} ms)"
    return f"failed: {plain(row.error)}"
