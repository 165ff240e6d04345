"""Lists in real databases, and an application over them that obeys `onetrip-read`.

A list is one row that grows by appending, so the order of all appends is the order in which the
row's lock was held, and a read shows the list's whole past (`support.histories`).
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import psycopg
import pymysql
from aiohttp import web

from support.replicated_mariadb import MariadbGroup
from support.replicated_postgres import PostgresGroup

READ_TIMEOUT = 20
"""Longest silence of MariaDB before its client gives up, s."""

POSTGRES_TABLE = "CREATE TABLE lists (name text PRIMARY KEY, held text NOT NULL)"
MARIADB_TABLE = "CREATE TABLE app.lists (name varchar(20) PRIMARY KEY, held mediumtext NOT NULL)"

_POSTGRES_APPEND = (
    "INSERT INTO lists VALUES (%s, %s) "
    "ON CONFLICT (name) DO UPDATE SET held = lists.held || ',' || EXCLUDED.held"
)
_MARIADB_APPEND = (
    "INSERT INTO lists VALUES (%s, %s) "
    "ON DUPLICATE KEY UPDATE held = concat(held, ',', VALUES(held))"
)


class Lists:
    """The lists of one database, whose servers are known by their endpoints' names.

    Attributes:
        primary: the endpoint that takes writes, as the application has it without being told.
    """

    def __init__(
        self, ports: Mapping[str, int], connect: Callable[[int], Any], append: str
    ) -> None:
        self._ports = dict(ports)
        self._connect = connect
        self._append = append
        self._idle: dict[str, queue.LifoQueue[Any]] = {n: queue.LifoQueue() for n in ports}
        self.primary = "db"

    async def append(self, endpoint: str, name: str, value: int) -> None:
        """Append to a list; raises `OSError` whether or not that was done."""
        await asyncio.to_thread(self._run, endpoint, self._append, (name, str(value)))

    async def read(self, endpoint: str, name: str) -> str:
        """Return a list's values, separated by commas; raises `OSError`."""
        rows = await asyncio.to_thread(
            self._run, endpoint, "SELECT held FROM lists WHERE name = %s", (name,)
        )
        return str(rows[0][0]) if rows else ""

    def close(self) -> None:
        """Close every connection."""
        for idle in self._idle.values():
            while not idle.empty():
                with suppress(psycopg.Error, pymysql.Error, OSError):
                    idle.get_nowait().close()

    def _run(self, endpoint: str, sql: str, values: tuple[str, ...]) -> Any:
        idle = self._idle[endpoint]
        try:
            try:
                connection = idle.get_nowait()
            except queue.Empty:
                connection = self._connect(self._ports[endpoint])
            cursor = connection.cursor()
            cursor.execute(sql, values)
            rows = cursor.fetchall() if cursor.description else ()
            cursor.close()
        except (psycopg.Error, pymysql.Error, OSError) as error:
            raise OSError(f"{endpoint}: {error}") from error
        idle.put(connection)
        return rows


def postgres_lists(group: PostgresGroup) -> Lists:
    """Return the lists of a group; its servers are `db`, `db/r1`, `db/r2`, in order."""

    def connect(port: int) -> Any:
        where = f"host=127.0.0.1 port={port} user=probe dbname=postgres client_encoding=utf8"
        return psycopg.connect(where, autocommit=True)

    return Lists(_named(server.port for server in group.servers), connect, _POSTGRES_APPEND)


def mariadb_lists(group: MariadbGroup) -> Lists:
    """Return the lists of a group; its servers are `db`, `db/r1`, `db/r2`, in order."""

    def connect(port: int) -> Any:
        return pymysql.connect(
            host="127.0.0.1",
            port=port,
            user="root",
            database="app",
            autocommit=True,
            connect_timeout=5,
            read_timeout=READ_TIMEOUT,
        )

    return Lists(_named(server.port for server in group.servers), connect, _MARIADB_APPEND)


def _named(ports: Iterable[int]) -> dict[str, int]:
    return {f"db/r{n}" if n else "db": port for n, port in enumerate(ports)}


def list_application(lists: Lists, nearest: str) -> web.Application:
    """Return an application: `GET /lists/NAME` reads a list, `POST /lists/NAME/VALUE` appends.

    Args:
        nearest: endpoint that it reads from when it is not told otherwise.
    """

    def told(request: web.Request) -> str:
        return request.headers.get("onetrip-read", "").removeprefix("db=")

    async def read(request: web.Request) -> web.Response:
        try:
            text = await lists.read(told(request) or nearest, request.match_info["name"])
        except OSError as error:
            return web.Response(status=503, text=str(error))
        return web.Response(text=text)

    async def append(request: web.Request) -> web.Response:
        found = request.match_info
        try:
            await lists.append(told(request) or lists.primary, found["name"], int(found["value"]))
        except OSError as error:
            return web.Response(status=503, text=str(error))
        return web.Response(text="")

    application = web.Application()
    application.router.add_get("/lists/{name}", read)
    application.router.add_post("/lists/{name}/{value}", append)
    return application
