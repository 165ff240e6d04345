"""A routing relay in the test's loop, before a PostgreSQL group."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psycopg

from onetrip.model.catalog import BackendKind
from onetrip.model.replication import Role
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.observe.logs import silent_log
from onetrip.relay.route_server import RouteServer
from onetrip.relay.route_settings import Account, DatabaseEndpoint, RouteSettings
from onetrip.relay.settings import RelaySettings
from onetrip.timing import MonotonicClock
from onetrip.wire.scram import Verifier
from support.relayed import LOOPBACK
from support.replicated_postgres import PostgresGroup
from support.waits import eventually

USER, PASSWORD, DATABASE = "app", "geheim-4711", "shop"

HBA = [f"host all {USER} 127.0.0.1/32 scram-sha-256"]
STATEMENTS = [
    f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'",
    f"CREATE DATABASE {DATABASE} OWNER {USER}",
]


def account(name: str = USER, password: str = PASSWORD) -> Account:
    """Return an account that is the same towards clients and servers."""
    return Account(name, Verifier.of(password, b"0123456789abcdef"), name, password)


def route_to(group: PostgresGroup, **changes: Any) -> RouteSettings:
    """Return settings that lead to a group; a replica has a second to be fresh."""
    endpoints = tuple(
        DatabaseEndpoint(server.name, Endpoint(LOOPBACK, server.port)) for server in group.servers
    )
    made = RouteSettings(
        endpoints, {USER: account()}, USER, DATABASE, replica_wait=5.0, check_interval=0.2
    )
    return replace(made, **changes)


def relay_settings(backend: str = "orders-db") -> RelaySettings:
    """Return what a routing relay is started with, but for its routes."""
    nowhere = Endpoint(LOOPBACK, 0)
    return RelaySettings(BackendKind.POSTGRES, nowhere, nowhere, backend)


@asynccontextmanager
async def routed(
    route: RouteSettings, *, waits: bool = True, **limits: Any
) -> AsyncIterator[tuple[RouteServer, int]]:
    """Route; give the relay and its port.

    Args:
        waits: until the relay knows every server.
    """
    settings = replace(relay_settings(), target=route.endpoints[0].at, **limits)
    # Seeded: nobody has to be kept from guessing here.
    rng = random.Random(4711)
    server = RouteServer(settings, route, TcpDialer(), MonotonicClock(), rng, silent_log())
    port = await server.start()
    try:
        standings = server.fleet.standings.by_name.values()
        if waits:
            await eventually(lambda: all(one.role is not Role.UNKNOWN for one in standings))
        yield server, port
    finally:
        await server.stop()


def address(port: int, **more: str) -> str:
    """Return where a client connects to, as libpq takes it."""
    given = {"user": USER, "password": PASSWORD, "dbname": DATABASE, **more}
    return f"host={LOOPBACK} port={port} " + " ".join(f"{k}='{v}'" for k, v in given.items())


@asynccontextmanager
async def connect(
    port: int, *, autocommit: bool = True, **more: str
) -> AsyncIterator[psycopg.AsyncConnection]:
    """Connect a client."""
    made = await psycopg.AsyncConnection.connect(address(port, **more), autocommit=autocommit)
    try:
        yield made
    finally:
        await made.close()


async def value(
    connection: psycopg.AsyncConnection, sql: str, *parameters: object, **more: Any
) -> Any:
    """Return the first value that a statement gives."""
    cursor = await connection.execute(sql, parameters or None, **more)
    row = await cursor.fetchone()
    found = row[0] if row else None
    # The rig's databases have no encoding, so text comes as bytes.
    return found.decode() if isinstance(found, bytes) else found


async def port_of(connection: psycopg.AsyncConnection) -> int:
    """Return where a read runs."""
    return int(await value(connection, "SHOW port"))
