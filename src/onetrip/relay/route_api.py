"""The relay's own HTTP: how far its writes are, a floor for its reads, and how it is doing.

For the node beside it, which makes tokens of positions and asks for floors before it runs a
request with one. Loopback without a token, anything else with one.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from aiohttp import web

from onetrip.errors import OnetripError
from onetrip.model.replication import PositionKind, lsn, parse_position
from onetrip.model.topology import Endpoint
from onetrip.relay.route_server import RouteServer
from onetrip.relay.scrape import PATH, Scrape
from onetrip.relay.settings import RelaySettings

MAX_BODY = 8 * 1024
"""Largest body of a request, bytes."""

MAX_LSN = (1 << 64) - 1

_COUNTS = ("replica", "primary", "stale", "repeated", "pinned")


class RouteApi:
    """Serves `/position`, `/floor`, `/status` and `/metrics`.

    Args:
        settings: what the relay was started with.
        token: what callers must show, or None where nobody else can connect.
    """

    def __init__(self, server: RouteServer, settings: RelaySettings, token: str | None) -> None:
        self._server = server
        self._backend = settings.backend
        self._scrape = Scrape(server, settings)
        self._token = token
        self._runner: web.AppRunner | None = None

    async def start(self, where: Endpoint) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        app.router.add_get("/position", self._position)
        app.router.add_post("/floor", self._floor)
        app.router.add_get("/status", self._status)
        app.router.add_get(PATH, self._scrape.answer)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, where.host, where.port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self._token is not None:
            shown = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(shown, b"Bearer " + self._token.encode()):
                return _problem(401, "a bearer token is wanted")
        response: web.StreamResponse = await handler(request)
        return response

    async def _position(self, request: web.Request) -> web.Response:
        standings = self._server.fleet.standings
        return web.json_response(
            {
                "backend": self._backend,
                "position": str(lsn(standings.written)),
                "floor": str(lsn(standings.floor)),
            }
        )

    async def _floor(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            backend, text = body["backend"], body["position"]
            position = parse_position(text)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, OnetripError):
            return _problem(400, 'the body is not {"backend": name, "position": log position}')
        if backend != self._backend:
            return _problem(404, f"this relay leads to {self._backend}")
        if position.kind is not PositionKind.LSN:
            return _problem(400, "position is not one of PostgreSQL, as 16/B374D848")
        # A read that comes behind this answer is held to it.
        standings = self._server.fleet.standings
        standings.raise_floor(min(position.ranges[0][1][0][1], MAX_LSN))
        return web.json_response({"backend": backend, "floor": str(lsn(standings.floor))})

    async def _status(self, request: web.Request) -> web.Response:
        fleet, usage = self._server.fleet, self._server.usage
        endpoints = {
            one.name: {
                "role": one.role.value,
                "position": str(lsn(one.position)),
                "rtt_ms": round(one.rtt * 1000, 3),
            }
            for one in fleet.standings.by_name.values()
        }
        pools = [
            {
                "endpoint": name,
                "account": account,
                "database": database,
                "connections": pool.size,
                "idle": pool.idle,
                "waiting": pool.waiting,
            }
            for (name, account, database), pool in fleet.pools.items()
        ]
        counts = {name: getattr(usage, name) for name in _COUNTS}
        return web.json_response(
            {
                "backend": self._backend,
                "connections": self._server.connections,
                "primary": fleet.standings.primary,
                "endpoints": endpoints,
                "pools": pools,
                "transactions": counts,
            }
        )


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response(
        {"status": status, "detail": detail}, status=status, content_type="application/problem+json"
    )
