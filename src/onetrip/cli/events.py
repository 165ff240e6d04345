"""`onetrip events`: what happened, and what happens."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from onetrip.cli.client import DEFAULT_API
from onetrip.cli.options import Api, AsJson, TokenFile, make_client, show

FOLLOW_TIMEOUT = 60.0
"""Longest silence of a node's stream, s; it sends something every 15 s."""


def events(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 30,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the latest events, newest first; or print them as they happen."""
    from onetrip.cli import render
    from onetrip.control.schemas import EventsBody

    if not follow:
        body = make_client(api, token_file).get(("events",), EventsBody, {"limit": str(limit)})
        show(body, render.events, as_json)
        return
    client = make_client(api, token_file, FOLLOW_TIMEOUT)
    for name, data in messages(client.lines(("stream",))):
        text = data if as_json else line_of(name, data)
        if text and not (as_json and name != "event"):
            print(text, flush=True)
    sys.stdout.flush()


def messages(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Return the name and data of each message of a stream of server-sent events."""
    name, data = "", ""
    for line in lines:
        field, _, text = line.partition(": ")
        if field == "event":
            name = text
        elif field == "data":
            data = text
        elif not line and name:
            yield name, data
            name, data = "", ""


def line_of(name: str, data: str) -> str:
    """Return a message as one line of text, or "" for one that a person need not see."""
    import msgspec

    from onetrip.cli.render import instant, plain
    from onetrip.control.schemas import EventRow, StatusBody

    if name == "event":
        event = msgspec.json.decode(data, type=EventRow)
        parts = (instant(event.at), event.name, plain(event.subject), plain(event.detail))
        return "  ".join(parts)
    if name == "status":
        status = msgspec.json.decode(data, type=StatusBody)
        return plain("; ".join([f"status {status.state}", *status.problems]))
    return "some events were missed" if name == "missed" else ""
