"""The API's own description (OpenAPI 3.1), as it is served.

It is a file beside this module that `make docs` writes (`control/openapi` makes it from the table
of operations and the structs, and a test keeps it equal to them): a node runs without docstrings,
and an idle one has no room for a second copy of what nobody asks for.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from aiohttp import web

from onetrip.control.requests import etag_matches

NAME = "openapi.json"


@cache
def load() -> tuple[bytes, str]:
    """Return the document and its entity tag."""
    body = files("onetrip.control").joinpath(NAME).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def respond(request: web.Request) -> web.Response:
    """Return the document, or 304 to a client that has it.

    Source: RFC 9110, section 13.1.2 (If-None-Match compares weakly).
    """
    body, etag = load()
    known = request.headers.get("If-None-Match", "").replace("W/", "")
    if known and etag_matches(known, etag):
        return web.Response(status=304, headers={"ETag": etag})
    return web.Response(body=body, content_type="application/json", headers={"ETag": etag})
