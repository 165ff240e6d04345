"""From a route to its handler: permission, parameters, body; and what is remembered of a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import HttpVersion11, web

from onetrip.control import audit
from onetrip.control.guard import caller, check_project, check_scope
from onetrip.control.operations import OPERATIONS, Call, Operation
from onetrip.control.problems import RefusedError, problem
from onetrip.control.records import Records
from onetrip.control.replays import HEADER, Replays, check_key
from onetrip.control.requests import flag_of, query_of
from onetrip.control.responses import REQUEST_ID
from onetrip.control.store import StoreError
from onetrip.errors import ApiError, Kind
from onetrip.observe.logs import Log

BODY_TIMEOUT = 10.0
"""Longest wait for a request body of a usual size, s."""

SLOWEST_UPLOAD = 1024 * 1024
"""Bytes of a large body that have as much time again."""

CallHandler = Callable[[Call], Awaitable[web.StreamResponse]]
"""Does what an operation is for."""


class Dispatcher:
    """Makes the routes.

    Args:
        records: where changes and replies are remembered.
        wall: Unix time, s.
    """

    def __init__(self, records: Records, wall: Callable[[], float], log: Log) -> None:
        self._records = records
        self._wall = wall
        self._log = log
        self._replays = Replays(records, wall, log)

    def routes(self, *parts: object) -> list[web.RouteDef]:
        """Return a route for each operation.

        Args:
            parts: one of them has a method of each operation's name.
        """
        return [self._route(each, _handler(each.name, parts)) for each in OPERATIONS]

    def _route(self, operation: Operation, handler: CallHandler) -> web.RouteDef:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._take(Call(request, operation), handler)

        make = web.get if operation.method == "GET" else partial(web.route, operation.method)
        return make(operation.path, handle, expect_handler=_expect)

    async def _take(self, call: Call, handler: CallHandler) -> web.StreamResponse:
        request, operation = call.request, call.operation
        if not operation.is_open:
            check_scope(caller(), operation.scope)
        if not operation.is_open and not operation.is_general:
            check_project(caller(), request.match_info.get("name"))
        if operation.query is not None:
            call.query = query_of(request.query.items(), operation.query)
        if not operation.is_change:
            return await handler(call)
        call.is_dry_run = flag_of(call.query, "dry_run")
        _check_type(request, operation)
        call.body = await _body(request, operation.max_body)
        act = partial(self._change, call, handler)
        key = request.headers.get(HEADER)
        if key is None or not operation.is_replayed:
            return await act()
        check_key(key)
        if call.is_dry_run:
            return await act()
        return await self._replays.once(caller().name, key, _identity(call), act)

    async def _change(self, call: Call, handler: CallHandler) -> web.Response:
        reply = await handler(call)
        assert isinstance(reply, web.Response), "only reads can be streams"
        if call.subject and call.operation.is_audited:
            await self._audit(call)
        return reply

    async def _audit(self, call: Call) -> None:
        request = call.request
        change = audit.Change(
            at=self._wall(),
            caller=caller().name,
            address=request.remote or "",
            request_id=REQUEST_ID.get(),
            operation=call.operation.name,
            subject=call.subject,
            before=call.before,
            after=call.after,
        )
        try:
            await self._records.call(audit.append, change)
        except StoreError as error:
            # The change is made; the log is then the only place that says so.
            self._log.error(
                "control.audit_failed",
                caller=change.caller,
                operation=change.operation,
                subject=change.subject,
                reason=str(error),
            )


def _handler(name: str, parts: tuple[object, ...]) -> CallHandler:
    found: CallHandler = next(getattr(part, name) for part in parts if hasattr(part, name))
    return found


def _identity(call: Call) -> bytes:
    request = call.request
    return b"\n".join([request.method.encode(), str(request.rel_url).encode(), call.body])


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


def _check_type(request: web.Request, operation: Operation) -> None:
    """Refuse a type that is fit for another operation (`guard` refuses the rest)."""
    wanted = operation.media_in or "application/json"
    if "Content-Type" in request.headers and request.content_type != wanted:
        raise RefusedError(
            415,
            f"content type is {request.content_type[:40]!r}; it must be {wanted}",
            kind=Kind.UNSUPPORTED,
            field="content-type",
        )


async def _body(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT * (1 + limit // SLOWEST_UPLOAD)):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > limit:
                    raise ApiError(
                        f"body exceeds limit of {limit} bytes",
                        kind=Kind.BODY_TOO_LARGE,
                        limit=f"{limit} bytes",
                    )
    except TimeoutError as error:
        raise ApiError(
            f"no body within {BODY_TIMEOUT:g} s", kind=Kind.TIMEOUT, limit=f"{BODY_TIMEOUT:g} s"
        ) from error
    return bytes(body)
