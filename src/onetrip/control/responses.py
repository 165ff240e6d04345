"""Structs as JSON responses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web


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
