"""A NATS JetStream key-value bucket as the `Bus` of `cluster/bus`; the only user of nats-py."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

from nats.aio.client import Client
from nats.errors import Error
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, KeyNotFoundError
from nats.js.kv import KeyValue

from onetrip.errors import Kind, PeerError

TIMEOUT = 5.0
"""Seconds that connecting or one call may take."""

FAILURES = (Error, OSError, TimeoutError, asyncio.InvalidStateError)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the servers are and what is shown to them.

    Attributes:
        bucket: made when it is missing and this node may make it.
        ttl: s after which a value that nobody renews is gone.
    """

    servers: tuple[str, ...]
    bucket: str
    ttl: float
    region: str
    user: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None


class JetStreamBus:
    """Connects to one of the servers of `access`; a lost connection fails the next call."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: Client | None = None
        self._values: KeyValue | None = None
        self._said = ""

    async def connect(self) -> None:
        """Connect and open the bucket.

        Raises:
            PeerError: no server can be reached, refuses us, or has no JetStream.
        """
        access = self._access
        self._client = client = Client()
        self._said = ""
        try:
            await asyncio.wait_for(self._open(client), 2 * TIMEOUT)
        except FAILURES as error:
            said = self._said or _reason(error)
            hint = " (cluster.nats.user)" if "uthorization" in said else ""
            where = ", ".join(access.servers)
            raise PeerError(f"cluster.nats: {where}: {said}{hint}", kind=Kind.CONNECT) from error

    async def put(self, key: str, value: bytes) -> None:
        """Write one value.

        Raises:
            PeerError: the server did not take it.
        """
        assert self._values is not None
        try:
            await asyncio.wait_for(self._values.put(key, value), TIMEOUT)
        except FAILURES as error:
            raise PeerError(f"cluster.nats: {key} not written: {self._cause(error)}") from error

    async def get(self, key: str) -> bytes | None:
        """Return one value, or None.

        Raises:
            PeerError: the server did not answer.
        """
        assert self._values is not None
        try:
            return (await asyncio.wait_for(self._values.get(key), TIMEOUT)).value
        except KeyNotFoundError:
            return None
        except FAILURES as error:
            raise PeerError(f"cluster.nats: {key} not read: {self._cause(error)}") from error

    async def close(self) -> None:
        """Disconnect."""
        client, self._client, self._values = self._client, None, None
        if client is not None:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(client.close(), TIMEOUT)

    async def _open(self, client: Client) -> None:
        access = self._access
        await client.connect(
            servers=list(access.servers),
            name=f"onetrip {access.region}",
            inbox_prefix=f"_INBOX.{access.region}",  # replies to others can be kept from us
            error_cb=self._note,
            allow_reconnect=False,
            connect_timeout=int(TIMEOUT),
            user=access.user,
            password=access.password,
            tls=access.tls,
        )
        stream = client.jetstream(timeout=TIMEOUT)
        try:
            self._values = await stream.key_value(access.bucket)
        except BucketNotFoundError:
            config = KeyValueConfig(
                access.bucket, ttl=access.ttl, storage=StorageType.MEMORY, direct=True
            )
            self._values = await stream.create_key_value(config)

    async def _note(self, error: Exception) -> None:
        self._said = _reason(error)

    def _cause(self, error: BaseException) -> str:
        return self._said or _reason(error)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
