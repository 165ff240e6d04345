"""From a route to its handler: the parameters and the body are read and bounded on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import HttpVersion11, web

from onetrip.control.operations import Call, Operation
from onetrip.control.problems import problem
from onetrip.control.requests import query_of
from onetrip.errors import ApiError, Kind

MAX_BODY = 64 * 1024
"""Largest request body, bytes; a project change needs about 200."""

BODY_TIMEOUT = 10.0
"""Longest wait for a request body, s."""

CallHandler = Callable[[Call], Awaitable[web.StreamResponse]]
"""Does what an operation is for."""


def route_of(operation: Operation, handler: CallHandler) -> web.RouteDef:
    """Return the route of an operation."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = Call(request, operation)
        if operation.query is not None:
            call.query = query_of(request.query.items(), operation.query)
        if operation.is_change:
            call.body = await _body(request)
        return await handler(call)

    make = web.get if operation.method == "GET" else partial(web.route, operation.method)
    return make(operation.path, handle, expect_handler=_expect)


async def _expect(request: web.Request) -> web.Response | None:
    """Answer an Expect header before the middlewares run (RFC 9110, section 10.1.1)."""
    wanted = request.headers.get("Expect", "")
    if request.version == HttpVersion11 and wanted.lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Interim bytes are none of the response's.
        request.writer.output_size = 0
        return None
    return problem(
        417,
        "Expect can only be 100-continue",
        kind=Kind.EXPECTATION,
        field="expect",
        limit="100-continue",
    )


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError as error:
        raise ApiError(
            f"no body within {BODY_TIMEOUT:g} s", kind=Kind.TIMEOUT, limit=f"{BODY_TIMEOUT:g} s"
        ) from error
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(
            f"body exceeds limit of {MAX_BODY} bytes",
            kind=Kind.BODY_TOO_LARGE,
            limit=f"{MAX_BODY} bytes",
        ) from error
