"""One relay process: built, started, told to stop by SIGTERM or SIGINT, and drained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from contextlib import AsyncExitStack
from random import SystemRandom
from typing import TYPE_CHECKING

import uvloop

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.observe.logs import Log, stderr_log
from onetrip.relay.report import HttpPost, Reporter
from onetrip.relay.server import RelayServer
from onetrip.relay.settings import RelaySettings
from onetrip.tasks import Tasks
from onetrip.timing import MonotonicClock

if TYPE_CHECKING:
    from onetrip.relay.route_server import RouteServer
    from onetrip.relay.route_settings import RouteSettings

FINAL_REPORT_TIMEOUT = 2.0
"""Longest wait for the last report to be taken, s."""


def run(
    settings: RelaySettings, api: str, token: str | None, route: RouteSettings | None = None
) -> int:
    """Relay until SIGTERM or SIGINT; return the process's exit code.

    Args:
        route: where sessions go, instead of all of them to one place.

    Raises:
        ConfigError: the address cannot be bound.
    """
    return uvloop.run(_serve(settings, api, token, route))


async def _serve(
    settings: RelaySettings, api: str, token: str | None, route: RouteSettings | None
) -> int:
    clock = MonotonicClock()
    log = stderr_log("info", clock.wall, backend=settings.backend)
    server: RelayServer | RouteServer
    if route is None:
        server = RelayServer(settings, TcpDialer(), clock, log)
    else:
        # Here, so that a relay without routes stays as small as it is.
        from onetrip.relay.route_server import RouteServer

        server = RouteServer(settings, route, TcpDialer(), clock, SystemRandom(), log)
    post = HttpPost(api, token)
    name = secrets.token_hex(6)
    reporter = Reporter(settings, name, lambda: server.counts, post, clock, log)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    tasks = Tasks(lambda task, error: _failed(log, task, error))
    try:
        port = await server.start()
    except OSError as error:
        raise ConfigError(f"--listen: {settings.listen}: {_reason(error)}") from error
    stack = AsyncExitStack()
    try:
        if route is not None:
            await _open_api(stack, server, settings, route)
        if settings.metrics is not None:
            await _open_metrics(stack, server, settings, settings.metrics)
        tasks.spawn(reporter.cut_forever(), "relay.cut")
        tasks.spawn(reporter.send_forever(), "relay.report")
        where = Endpoint(settings.listen.host, port)
        log.info("relay.started", relay=name, listen=str(where), to=str(settings.target))
        await stopping.wait()
        log.info("relay.draining", connections=server.connections)
        await server.drain()
    finally:
        await stack.aclose()
        await server.stop()
        await _last_report(reporter)
        await tasks.cancel(timeout=5.0)
        await post.close()
    log.info("relay.stopped")
    return 0


async def _open_api(
    stack: AsyncExitStack,
    server: RelayServer | RouteServer,
    settings: RelaySettings,
    route: RouteSettings,
) -> None:
    from onetrip.relay.route_api import RouteApi
    from onetrip.relay.route_server import RouteServer

    if route.api is None or not isinstance(server, RouteServer):
        return
    own = RouteApi(server, settings, route.api_token)
    try:
        await own.start(route.api)
    except OSError as error:
        raise ConfigError(f"--route: api.listen: {route.api}: {_reason(error)}") from error
    stack.push_async_callback(own.stop)


async def _open_metrics(
    stack: AsyncExitStack,
    server: RelayServer | RouteServer,
    settings: RelaySettings,
    where: Endpoint,
) -> None:
    from onetrip.relay.scrape import MetricsServer  # memory, for who never asks

    own = MetricsServer(server, settings)
    try:
        await own.start(where)
    except OSError as error:
        raise ConfigError(f"--metrics: {where}: {_reason(error)}") from error
    stack.push_async_callback(own.stop)


def _reason(error: OSError) -> str:
    # asyncio replaces the system's text with one that repeats the address.
    return os.strerror(error.errno) if error.errno else type(error).__name__


async def _last_report(reporter: Reporter) -> None:
    reporter.cut()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINAL_REPORT_TIMEOUT):
            await reporter.flush()


def _failed(log: Log, task: str, error: BaseException) -> None:
    log.error("relay.task_failed", task=task, error=type(error).__name__)
