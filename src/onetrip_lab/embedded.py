"""The embedded database: SQLite in memory behind the PostgreSQL protocol, as its own process.

It stands in where no PostgreSQL is installed, so that the demo has a real SQL database across a
real network connection everywhere: `python -m onetrip_lab.embedded --listen 127.77.2.50:5432`.
Every statement commits by itself; transactions are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import uvloop

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint, parse_endpoint
from onetrip_lab import seed
from onetrip_lab.pgmessages import Result, SqlError
from onetrip_lab.pgwire import Session

MAX_ROWS = 10_000
"""Rows of one result; the shop's largest has 8."""

MAX_RUN_TIME = 2.0
"""Bound on one statement, s; it runs on the event loop."""

MAX_CLIENTS = 800
"""A dozen applications with `shop.MAX_CONNECTIONS` each, and some room."""

_PROGRESS_STEPS = 20_000
"""SQLite instructions between two looks at the time, about 1 ms."""

_TRANSACTION = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"}
_FORBIDDEN = {"ATTACH", "DETACH", "PRAGMA", "VACUUM"}
"""Statements that reach outside the database, such as into files."""

_PARTS = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*)|\$([0-9]{1,5})")


class SqliteEngine:
    """SQLite in memory as an `Engine` of the protocol core.

    Args:
        max_run_time: bound on one statement, s.
    """

    def __init__(self, max_run_time: float = MAX_RUN_TIME) -> None:
        self._max_run_time = max_run_time
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._deadline = 0.0
        self._connection.set_progress_handler(self._is_late, _PROGRESS_STEPS)

    def run(self, sql: str, params: Sequence[str | None]) -> Result:
        """See `Engine.run`."""
        word = _check(sql)
        columns, rows, changed = self._execute(_numbered(sql), params)
        if len(rows) > MAX_ROWS:
            raise SqlError("54000", f"result has more than {MAX_ROWS} rows")
        return Result(columns, rows, _tag(word, len(rows), changed))

    def describe(self, sql: str) -> tuple[str, ...] | None:
        """See `Engine.describe`; types are not known before a statement runs."""
        if not sql.strip().strip(";"):
            return None
        _check(sql)
        numbered = _numbered(sql)
        count = max((int(n) for _, n in _PARTS.findall(sql) if n), default=0)
        self._execute(f"EXPLAIN {numbered}", [None] * count)
        if not re.match(r"\s*(SELECT|VALUES|WITH)\b", sql, re.IGNORECASE):
            return None
        text = f"SELECT * FROM ({numbered.strip().rstrip(';')}) LIMIT 0"
        return self._execute(text, [None] * count)[0]

    def close(self) -> None:
        """Forget all data."""
        self._connection.close()

    def _execute(
        self, sql: str, params: Sequence[str | None]
    ) -> tuple[tuple[str, ...] | None, list[Any], int]:
        """Return column names, rows and changed rows; rows are computed while they are fetched."""
        self._deadline = time.monotonic() + self._max_run_time
        try:
            cursor = self._connection.execute(sql, params)
            columns = tuple(d[0] for d in cursor.description) if cursor.description else None
            return columns, cursor.fetchmany(MAX_ROWS + 1), cursor.rowcount
        except sqlite3.IntegrityError as error:
            raise SqlError("23000", str(error)) from error
        except sqlite3.OperationalError as error:
            late = str(error) == "interrupted"
            raise SqlError("57014" if late else "42601", str(error)) from error
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise SqlError("42000", str(error)) from error

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline


def _check(sql: str) -> str:
    word = (re.match(r"\s*([A-Za-z]*)", sql) or [""])[0].strip().upper()
    if word in _TRANSACTION:
        raise SqlError("0A000", f"{word} is not supported: every statement commits by itself")
    if word in _FORBIDDEN:
        raise SqlError("42501", f"{word} is not allowed")
    return word


def _numbered(sql: str) -> str:
    """Return the statement with SQLite's ?1 for PostgreSQL's $1, outside of quotes."""
    return _PARTS.sub(lambda m: m[1] if m[1] is not None else f"?{m[2]}", sql)


def _tag(word: str, rows: int, changed: int) -> str:
    if word in {"SELECT", "VALUES", "WITH"}:
        return f"SELECT {rows}"
    if word == "INSERT":
        return f"INSERT 0 {max(changed, 0)}"
    return f"{word} {max(changed, 0)}" if word in {"UPDATE", "DELETE"} else word


class _Client(asyncio.Protocol):
    """One connection: the shell around `Session`."""

    def __init__(self, server: EmbeddedDatabase) -> None:
        self._server = server
        self._session = Session(server.engine)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's, so this is a claim and not a check.
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.clients) >= MAX_CLIENTS:
            self._transport.abort()
            return
        self._server.clients.add(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(self._session.receive_data(data))
        if self._session.is_closing:
            self._transport.close()

    def pause_writing(self) -> None:
        # A client that sends queries and reads no results must not fill our memory.
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.clients.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class EmbeddedDatabase:
    """The listening database."""

    def __init__(self, engine: SqliteEngine) -> None:
        self.engine = engine
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, endpoint: Endpoint) -> Endpoint:
        """Serve on `endpoint`; port 0 takes a free one.

        Raises:
            ConfigError: the address is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Client(self), endpoint.host, endpoint.port
            )
        except OSError as error:
            raise ConfigError(f"database cannot listen on {endpoint}: {error.strerror}") from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return Endpoint(host, port)

    async def close(self) -> None:
        """Stop listening and reset every client."""
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.abort()
        await asyncio.sleep(0)


def seeded_engine() -> SqliteEngine:
    """Return an engine that holds the demo shop's data."""
    engine = SqliteEngine()
    for statement in seed.statements():
        engine.run(statement, ())
    return engine


async def _serve(endpoint: Endpoint) -> None:
    database = EmbeddedDatabase(seeded_engine())
    await database.listen(endpoint)
    await asyncio.Event().wait()


def main(argv: list[str] | None = None) -> int:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(prog="onetrip_lab.embedded", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    options = parser.parse_args(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(parse_endpoint(options.listen)))
    except ConfigError as error:
        print(f"embedded database: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
