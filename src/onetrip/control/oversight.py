"""The handlers of tokens and of the audit log."""

from __future__ import annotations

import re
from collections.abc import Callable

from aiohttp import web

from onetrip.control import audit, cursors, tokens
from onetrip.control.access import (
    NAME,
    AuditBody,
    NewTokenBody,
    TokenOrder,
    TokensBody,
    change_row,
    token_row,
)
from onetrip.control.operations import Call
from onetrip.control.records import Records
from onetrip.control.requests import limit_of, outside, parse
from onetrip.control.responses import reply
from onetrip.control.tokens import Scope, Token
from onetrip.control.view import NodeView
from onetrip.errors import ApiError, Kind


class Oversight:
    """The handlers.

    Args:
        wall: Unix time, s.
        random: returns so many random bytes.
    """

    def __init__(
        self,
        view: NodeView,
        records: Records,
        wall: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._view = view
        self._records = records
        self._wall = wall
        self._random = random

    async def tokens(self, call: Call) -> web.Response:
        """List the tokens."""
        found = await self._records.call(tokens.every)
        return reply(TokensBody([token_row(token) for token in found]))

    async def create_token(self, call: Call) -> web.Response:
        """Make a token, and tell its secret."""
        order = parse(call.body, TokenOrder)
        token = self._token(order)
        if not self._records.is_durable:
            raise ApiError(
                "tokens are kept on disk: set data_dir in the configuration", kind=Kind.CONFLICT
            )
        secret = tokens.make(self._random)
        await self._records.call(tokens.put, token, tokens.digest_of(secret))
        call.subject, call.after = token.name, token_row(token)
        return reply(NewTokenBody(secret, token_row(token)), status=201)

    async def revoke_token(self, call: Call) -> web.Response:
        """Revoke a token; its next request is refused."""
        name = call.request.match_info["token"]
        token = await self._records.call(tokens.revoke, name)
        if token is None:
            raise ApiError(f"no token {name[:40]!r}", field="token", kind=Kind.NOT_FOUND)
        call.subject, call.before = token.name, token_row(token)
        return web.Response(status=204)

    async def audit(self, call: Call) -> web.Response:
        """List the changes that were made, newest first."""
        limit = limit_of(call.query, *call.operation.rows)
        found = await self._records.call(audit.page, limit + 1, cursors.number_of(call.query))
        rows = [change_row(change) for _, change in found[:limit]]
        return reply(AuditBody(rows, str(found[limit - 1][0]) if len(found) > limit else None))

    def _token(self, order: TokenOrder) -> Token:
        if not re.fullmatch(NAME, order.name) or order.name in tokens.RESERVED:
            reserved = ", ".join(tokens.RESERVED)
            raise outside("name", order.name, f"{NAME} and not one of {reserved}")
        known = [scope.value for scope in Scope]
        if order.scope not in known:
            raise outside("scope", order.scope, f"one of {', '.join(known)}")
        if order.project and order.project not in self._view.catalog.projects:
            raise ApiError(
                f"no project {order.project[:40]!r}", field="project", kind=Kind.NOT_FOUND
            )
        now = self._wall()
        end = None if order.expires_in is None else now + order.expires_in
        return Token(order.name, Scope(order.scope), order.project, now, end)
