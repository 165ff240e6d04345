"""PostgreSQL about replication, by psycopg; the only module that imports it.

What it takes: a role that may log in, nothing more; `pg_monitor` in addition, to be told which
replicas there are. The position that covers every answered commit is where the log is *inserted*:
a commit with `synchronous_commit = off` is answered before it is written out.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from typing import Any, LiteralString

import psycopg

from onetrip.errors import Kind, ProtocolError, ReplicationError
from onetrip.model.catalog import Backend, DatabaseTls
from onetrip.model.replication import NOTHING, Role, parse_position
from onetrip.model.topology import Endpoint
from onetrip.probe.replication_base import MOST_SEEN, Look, SeenReplica, one_line, refused

_LOOK: LiteralString = """
SELECT in_recovery,
  CASE WHEN in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text,
  CASE WHEN in_recovery THEN NULL ELSE pg_current_wal_insert_lsn() END::text,
  CASE WHEN in_recovery
    THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END,
  CASE WHEN in_recovery
    THEN NOT pg_is_wal_replay_paused() AND EXISTS (SELECT FROM pg_stat_wal_receiver) END,
  CASE WHEN in_recovery THEN NULL ELSE pg_walfile_name(pg_current_wal_flush_lsn()) END
FROM (SELECT pg_is_in_recovery() AS in_recovery) AS now
"""

_REPLICAS: LiteralString = """
SELECT application_name, host(client_addr) FROM pg_stat_replication
WHERE client_addr IS NOT NULL AND state <> 'backup' ORDER BY 1, 2 LIMIT 65
"""

_ACCOUNT = {
    "28P01": "password",  # invalid_password
    "28000": "user",  # invalid_authorization_specification: no such role, or pg_hba.conf
    "3D000": "database",  # invalid_catalog_name
    "42501": "user",  # insufficient_privilege
}
"""Field to blame, by SQLSTATE."""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresClient:
    """See `ReplicationClient`."""

    def __init__(self, backend: Backend, endpoint: Endpoint) -> None:
        self._backend = backend
        self._endpoint = endpoint
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def look(self, timeout: float) -> Look:
        """See `ReplicationClient`."""
        rows = await self._ask(_LOOK, timeout)
        in_recovery, position, answered, told, is_replicating, file = rows[0]
        try:
            return Look(
                Role.REPLICA if in_recovery else Role.PRIMARY,
                parse_position(position) if position else NOTHING,
                parse_position(answered) if answered else NOTHING,
                math.nan if told is None else max(0.0, told),
                True if is_replicating is None else is_replicating,
                int(file[:8], 16) if file else 0,
            )
        except ProtocolError as error:
            raise ReplicationError(f"{self._endpoint}: {error}") from error

    async def replicas(self, timeout: float) -> list[SeenReplica]:
        """See `ReplicationClient`; the port of a replica is not known to its primary."""
        rows = await self._ask(_REPLICAS, timeout)
        return [SeenReplica(name or "", host, 0) for name, host in rows[:MOST_SEEN]]

    async def close(self) -> None:
        """See `ReplicationClient`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _ask(self, query: LiteralString, timeout: float) -> list[tuple[Any, ...]]:
        try:
            async with asyncio.timeout(timeout), self._lock:
                if self._connection is None:
                    self._connection = await self._open()
                cursor = await self._connection.execute(query)
                return await cursor.fetchall()
        except TimeoutError as error:
            await self.close()
            reason = f"{self._endpoint} did not answer within {timeout:g} s"
            raise ReplicationError(reason, kind=Kind.TIMEOUT) from error
        except psycopg.Error as error:
            await self.close()
            raise self._error(error) from error
        except BaseException:  # a question half asked: its answer must not be the next one's
            await self.close()
            raise

    async def _open(self) -> Connection:
        access = self._backend.replication
        assert access is not None
        return await psycopg.AsyncConnection.connect(
            host=self._endpoint.host,
            port=self._endpoint.port,
            user=access.user,
            password=access.password,
            dbname=access.database or "postgres",
            sslmode=self._backend.tls.value,
            gssencmode="disable",
            client_encoding="utf8",  # text as bytes otherwise, where a database has no encoding
            application_name="onetrip",
            autocommit=True,
            prepare_threshold=None,
            sslrootcert=_authorities(self._backend),
        )

    def _error(self, error: psycopg.Error) -> ReplicationError:
        said = error.diag.message_primary or str(error)
        state = error.sqlstate or _state_of(said)
        if state in _ACCOUNT:
            return refused(self._backend, self._endpoint, _ACCOUNT[state], said)
        return ReplicationError(f"{self._endpoint}: {one_line(said)}")


def _state_of(said: str) -> str:
    # libpq does not pass on the SQLSTATE of a refused login, only the server's words.
    for words, state in (
        ("password authentication failed", "28P01"),
        ("pg_hba.conf", "28000"),
        ("role ", "28000"),
        ("database ", "3D000"),
    ):
        if f"FATAL:  {words}" in said or f"FATAL:  no {words}" in said:
            return state
    return ""


def _authorities(backend: Backend) -> str | None:
    if backend.ca_file or backend.tls not in (DatabaseTls.VERIFY_CA, DatabaseTls.VERIFY_FULL):
        return backend.ca_file or None
    paths = ssl.get_default_verify_paths()  # libpq's own default is a file in the home directory
    return paths.cafile or paths.openssl_cafile
