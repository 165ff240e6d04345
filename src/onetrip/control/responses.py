"""Structs as JSON responses, and the id of what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

import msgspec
from aiohttp import web

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that a task answers."""


def reply(
    body: msgspec.Struct, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> web.Response:
    """Return a body as a response."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers=headers,
    )
