"""Redis about replication, in its own protocol: `AUTH` once, then `INFO replication`.

What it takes: a user that may `INFO` (`ACL SETUSER onetrip on >password +info`), nothing else; it
reads no key. Servers before Redis 6 have passwords without users, which `default` stands for.

A position is for lag alone. What a primary has answered for is told of none (`Look.answered`):
Redis answers before any replica has a change, and whoever is promoted may lack it, so a position
could not promise what a session is promised (docs/consistency.md).

Redis has no word for the lag of its data: `lag` of a replica at its primary, and the replica's
`master_last_io_seconds_ago`, are times since the two heard each other, which a stream that comes
late does not change, and which grow to `repl-ping-replica-period` while nobody writes. So positions
alone decide, and a replica that is connected and has applied all it received is as fresh as they
allow.
"""

from __future__ import annotations

import asyncio
import math

from onetrip.errors import Kind, ProtocolError, ReplicationError, UpstreamError
from onetrip.model.catalog import Backend
from onetrip.model.replication import NOTHING, Role, offsets
from onetrip.model.topology import Endpoint
from onetrip.net.dial import Dial, TcpDialer
from onetrip.net.streams import Connection
from onetrip.probe.replication_base import MOST_SEEN, Look, SeenReplica, refused
from onetrip.timing import Clock, Deadline, MonotonicClock
from onetrip.wire.redis_replication import (
    INFO,
    Bulk,
    RedisReply,
    RedisReplyEvent,
    RedisStanding,
    Said,
    command,
    parse_replication,
)
from onetrip.wire.reply import ServerRefused

DEFAULT_USER = "default"
"""The user of connections that say nothing, and the one that a password alone is of."""

_ACCOUNT = {
    "WRONGPASS": ("password", "wrong user name or password, or a user that is off"),
    "NOAUTH": ("password", "a password is required"),
    "NOPERM": ("user", "it lacks +info"),
    "DENIED": ("user", "protected mode refuses this host"),
}
"""Field to blame and reason, by the code of an error."""


class RedisClient:
    """See `ReplicationClient`.

    Args:
        dial: opens connections; the network of this machine unless told.
    """

    def __init__(
        self,
        backend: Backend,
        endpoint: Endpoint,
        dial: Dial | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._backend = backend
        self._endpoint = endpoint
        self._dial = dial or TcpDialer()
        self._clock = clock or MonotonicClock()
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def look(self, timeout: float) -> Look:
        """See `ReplicationClient`."""
        return look_of(await self._ask(timeout))

    async def replicas(self, timeout: float) -> list[SeenReplica]:
        """See `ReplicationClient`; those that are still being copied to are not told of."""
        standing = await self._ask(timeout)
        return [SeenReplica("", host, port) for host, port in standing.replicas[:MOST_SEEN]]

    async def close(self) -> None:
        """See `ReplicationClient`."""
        self._drop()

    async def _ask(self, timeout: float) -> RedisStanding:
        deadline = Deadline.after(timeout, self._clock)
        try:
            async with asyncio.timeout(timeout), self._lock:
                try:
                    return await self._told(deadline)
                except BaseException:  # its answer must not be the next question's
                    self._drop()
                    raise
        except TimeoutError as error:
            raise self._silent(timeout) from error
        except UpstreamError as error:
            if error.kind is Kind.TIMEOUT:
                raise self._silent(timeout) from error
            raise ReplicationError(f"{self._endpoint}: {error}") from error
        except ProtocolError as error:
            raise ReplicationError(f"{self._endpoint}: {error}") from error

    async def _told(self, deadline: Deadline) -> RedisStanding:
        connection = self._connection
        if connection is None or not connection.is_idle:  # closed, or bytes that nobody asked for
            self._drop()
            connection = self._connection = await self._open(deadline)
        answer = await self._reply(connection, command(*INFO), deadline)
        if isinstance(answer, ServerRefused):
            raise self._refused("INFO", answer.code)
        if not isinstance(answer, Bulk):
            raise ProtocolError("Redis reply to INFO is no bulk string")
        return parse_replication(answer.data)

    async def _open(self, deadline: Deadline) -> Connection:
        connection = await self._dial(
            lambda: Connection(self._clock),
            self._endpoint.host,
            self._endpoint.port,
            timeout=deadline.remaining(self._clock),
            tls_name=self._endpoint.tls_name,
        )
        try:
            await self._log_in(connection, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _log_in(self, connection: Connection, deadline: Deadline) -> None:
        access = self._backend.replication
        assert access is not None
        if access.user == DEFAULT_USER and not access.password:
            return
        words = [access.user, access.password]
        if access.user == DEFAULT_USER:  # which servers before Redis 6 do not know by its name
            words = [access.password]
        question = command(b"AUTH", *(word.encode() for word in words))
        answer = await self._reply(connection, question, deadline)
        if isinstance(answer, ServerRefused):
            raise self._refused("AUTH", answer.code)
        if answer != Said(b"OK"):
            raise ProtocolError("Redis reply to AUTH is neither +OK nor an error")

    async def _reply(
        self, connection: Connection, question: bytes, deadline: Deadline
    ) -> RedisReplyEvent:
        reader = RedisReply()
        connection.write(question)
        while not reader.is_done:
            data = await connection.read(deadline.remaining(self._clock))
            if not data:
                raise UpstreamError("it closed the connection without an answer")
            reader.receive_data(data)
        if not reader.is_clean:
            raise ProtocolError("Redis sent more than it was asked for")
        return reader.next_events()[0]

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _refused(self, name: str, code: str) -> ReplicationError:
        """Return the error for a refusal; of what was said only the code is kept.

        A server that does not know AUTH repeats its arguments, the password among them.
        """
        if code in _ACCOUNT:
            return refused(self._backend, self._endpoint, *_ACCOUNT[code])
        if name == "AUTH":
            reason = "it takes no such login: no password is set, or it knows no users"
            return refused(self._backend, self._endpoint, "password", reason)
        return ReplicationError(f"{self._endpoint} refuses {name}: {code or 'an error'}")

    def _silent(self, timeout: float) -> ReplicationError:
        reason = f"{self._endpoint} did not answer within {timeout:g} s"
        return ReplicationError(reason, kind=Kind.TIMEOUT)


def look_of(standing: RedisStanding) -> Look:
    """Return what a server's standing tells; see the module for what it does not."""
    position = offsets((standing.id, standing.offset))
    if standing.is_primary:
        return Look(Role.PRIMARY, position)
    if standing.older is not None:
        # After a failover it still has what the former primary wrote, as far as it followed that:
        # nobody may know yet who the new one is.
        position = position.join(offsets(standing.older))
    told = 0.0 if standing.is_linked and standing.has_applied_all else math.nan
    return Look(Role.REPLICA, position, NOTHING, told, standing.is_linked)
