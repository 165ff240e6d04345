"""MySQL and MariaDB about replication, by PyMySQL in a thread; the only module that imports it.

What it takes: an account with `REPLICATION CLIENT` (MariaDB: `SLAVE MONITOR`), and `REPLICATION
SLAVE` (MariaDB: `REPLICATION MASTER ADMIN`) to be told which replicas there are.

What a read of a MariaDB replica sees is `gtid_slave_pos` alone: a server that was the primary once
has written what nobody else has, and its own log would cover what it lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pymysql
from pymysql.cursors import DictCursor

from onetrip.errors import Kind, ProtocolError, ReplicationError
from onetrip.model.catalog import Backend, DatabaseTls
from onetrip.model.replication import NOTHING, Position, Role, parse_position
from onetrip.model.topology import Endpoint
from onetrip.probe.replication_base import MOST_SEEN, Look, SeenReplica, one_line, refused
from onetrip.probe.tls import make_context

_ACCOUNT = {
    1044: "database",  # ER_DBACCESS_DENIED_ERROR
    1045: "password",  # ER_ACCESS_DENIED_ERROR: user or password
    1049: "database",  # ER_BAD_DB_ERROR
    1130: "user",  # ER_HOST_NOT_PRIVILEGED
    1142: "user",  # ER_TABLEACCESS_DENIED_ERROR
    1227: "user",  # ER_SPECIFIC_ACCESS_DENIED_ERROR: it lacks REPLICATION CLIENT
    1698: "password",  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
}
"""Field to blame, by error number."""

_OWN_MARIADB = """
SELECT @@global.read_only AS ro, @@gtid_slave_pos AS applied, @@gtid_binlog_pos AS written
"""
_OWN_MYSQL = "SELECT @@global.read_only AS ro, @@global.gtid_executed AS applied, '' AS written"

_SYNTAX = 1064
"""ER_PARSE_ERROR: a statement that this version does not have yet, or any more."""

Row = dict[str, Any]
T = TypeVar("T")


class MysqlClient:
    """See `ReplicationClient`."""

    def __init__(self, backend: Backend, endpoint: Endpoint) -> None:
        self._backend = backend
        self._endpoint = endpoint
        self._connection: pymysql.Connection | None = None
        # A thread of its own: a server that hangs holds up nobody else.
        self._thread = ThreadPoolExecutor(1, "replication")

    async def look(self, timeout: float) -> Look:
        """See `ReplicationClient`."""
        return await self._ask(self._look, timeout)

    async def replicas(self, timeout: float) -> list[SeenReplica]:
        """See `ReplicationClient`; a replica is where its `report_host` says."""
        return await self._ask(self._replicas, timeout)

    async def close(self) -> None:
        """See `ReplicationClient`."""
        self._thread.submit(self._drop)
        self._thread.shutdown(wait=False)

    async def _ask(self, work: Callable[[float], T], timeout: float) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                return await loop.run_in_executor(self._thread, work, timeout)
        except TimeoutError as error:
            reason = f"{self._endpoint} did not answer within {timeout:g} s"
            raise ReplicationError(reason, kind=Kind.TIMEOUT) from error
        except ProtocolError as error:
            raise ReplicationError(f"{self._endpoint}: {error}") from error

    # --- in the thread ----------------------------------------------------------------------

    def _look(self, timeout: float) -> Look:
        with self._translated():
            connection = self._opened(timeout)
            is_mariadb = "MariaDB" in connection.get_server_info()
            rows = self._status(connection, is_mariadb=is_mariadb)
            own = self._rows(connection, _OWN_MARIADB if is_mariadb else _OWN_MYSQL)
        state = own[0]
        applied = parse_position(str(state["applied"] or ""))
        is_primary = not rows and not state["ro"]
        if is_primary:
            applied = applied.join(parse_position(str(state["written"] or "")))
        return look_of(rows, applied, is_primary=is_primary)

    def _status(self, connection: pymysql.Connection, *, is_mariadb: bool) -> list[Row]:
        if is_mariadb:
            return self._rows(connection, "SHOW ALL SLAVES STATUS")
        return self._either(connection, "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")

    def _replicas(self, timeout: float) -> list[SeenReplica]:
        with self._translated():
            connection = self._opened(timeout)
            rows = self._either(connection, "SHOW REPLICAS", "SHOW SLAVE HOSTS")
        found = [SeenReplica("", str(r.get("Host") or ""), int(r.get("Port") or 0)) for r in rows]
        return [each for each in found if each.host][:MOST_SEEN]

    def _either(self, connection: pymysql.Connection, new: str, old: str) -> list[Row]:
        try:
            return self._rows(connection, new)
        except pymysql.MySQLError as error:
            if not error.args or error.args[0] != _SYNTAX:
                raise
        return self._rows(connection, old)

    @staticmethod
    def _rows(connection: pymysql.Connection, statement: str) -> list[Row]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _opened(self, timeout: float) -> pymysql.Connection:
        if self._connection is None:
            access = self._backend.replication
            assert access is not None
            self._connection = pymysql.connect(
                host=self._endpoint.host,
                port=self._endpoint.port,
                user=access.user,
                password=access.password.encode(),
                database=access.database or None,
                connect_timeout=timeout,
                read_timeout=timeout,
                write_timeout=timeout,
                autocommit=True,
                cursorclass=DictCursor,
                ssl=None
                if self._endpoint.tls_name is None
                else make_context(DatabaseTls.VERIFY_FULL, ""),
            )
        return self._connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (pymysql.MySQLError, OSError, RuntimeError) as error:
            self._drop()
            raise self._error(error) from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(pymysql.MySQLError, OSError):
                connection.close()

    def _error(self, error: Exception) -> ReplicationError:
        number, said = (
            (*error.args, "", "")[:2] if isinstance(error, pymysql.MySQLError) else ("", "")
        )
        field = _ACCOUNT.get(number) if isinstance(number, int) else None
        if field is not None:
            return refused(self._backend, self._endpoint, field, str(said))
        return ReplicationError(f"{self._endpoint}: {one_line(str(said or error))}")


def look_of(rows: list[Row], position: Position, *, is_primary: bool) -> Look:
    """Return what a server's replication status and position tell; `rows` has one a source."""
    if is_primary:
        return Look(Role.PRIMARY, position, position)
    lags = [_field(row, "Seconds_Behind_Source", "Seconds_Behind_Master") for row in rows]
    running = [
        _field(row, f"Replica_{what}_Running", f"Slave_{what}_Running") == "Yes"
        for row in rows
        for what in ("IO", "SQL")
    ]
    is_known = bool(lags) and all(lag is not None for lag in lags)
    return Look(
        Role.REPLICA,
        position,
        NOTHING,
        float(max(lags)) if is_known else math.nan,
        bool(rows) and all(running),
    )


def _field(row: Row, new: str, old: str) -> Any:
    return row[new] if new in row else row.get(old)
