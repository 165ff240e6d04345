"""NATS JetStream as the `Bus` of `cluster/bus`: the connection, and what it opens."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client, RawCredentials
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from onetrip.cluster.jetstream_stores import (
    FAILURES,
    TIMEOUT,
    Calling,
    JetStreamBucket,
    JetStreamFiles,
    NatsCalls,
    reason_of,
)
from onetrip.cluster.nats_proof import CREDENTIALS, NKEY, Form, read_proof
from onetrip.errors import Kind, PeerError
from onetrip.model.topology import RegionId

TTL = 600.0
"""Seconds after which a report that nobody renews is gone; `pace.BASE_INTERVAL` is far below."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the servers are and what is shown to them.

    Attributes:
        prefix: of the names of the buckets, which are made when they are missing and this node may.
        replicas: servers that keep each bucket that is made.
        credentials, nkey: files of `nats_proof`.
    """

    servers: tuple[str, ...]
    prefix: str
    region: str
    replicas: int = 1
    user: str | None = None
    password: str | None = None
    credentials: Path | None = None
    nkey: Path | None = None
    tls: ssl.SSLContext | None = None


class JetStreamBus:
    """Connects to one of the servers of `access`; a lost connection fails the next call.

    Attributes:
        reports: each region writes its own keys, which begin with its name.
        rows: every region writes every key.
        files: every region writes every file.
        calls: each region answers for itself.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: Client | None = None
        self._received = self._sent = 0  # over earlier connections
        self._calling = calling = Calling()
        self.reports = JetStreamBucket(calling)
        self.rows = JetStreamBucket(calling)
        self.files = JetStreamFiles(calling)
        self.calls = NatsCalls(calling, access.prefix, RegionId(access.region))

    async def connect(self) -> None:
        """Connect and open the buckets.

        Raises:
            PeerError: no server can be reached, refuses us, or has no JetStream.
        """
        self._client = client = Client()
        self._calling.begin()
        try:
            await asyncio.wait_for(self._open(client), 4 * TIMEOUT)
        except FAILURES as error:
            said = self._calling.said or reason_of(error)
            hint = f" ({self._shown()})" if "uthorization" in said else ""
            where = ", ".join(self._access.servers)
            raise PeerError(f"cluster.nats: {where}: {said}{hint}", kind=Kind.CONNECT) from error

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        for bucket in (self.reports, self.rows):
            bucket.leave()
        self.files.store = self.calls.client = None
        if client is not None:
            self._received += client.stats["in_bytes"]
            self._sent += client.stats["out_bytes"]
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(client.close(), TIMEOUT)

    def traffic(self) -> tuple[int, int]:
        """Return the bytes received and sent since the start, in messages."""
        now = self._client.stats if self._client is not None else {"in_bytes": 0, "out_bytes": 0}
        return self._received + now["in_bytes"], self._sent + now["out_bytes"]

    async def _open(self, client: Client) -> None:
        access = self._access
        credentials = _read(access.credentials, CREDENTIALS)
        seed = _read(access.nkey, NKEY)
        await client.connect(
            servers=list(access.servers),
            name=f"onetrip {access.region}",
            inbox_prefix=f"_INBOX.{access.region}",  # replies to others can be kept from us
            error_cb=self._calling.note,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # of each server, before the next exchange tries anew
            reconnect_time_wait=0,
            connect_timeout=int(TIMEOUT),
            user=access.user,
            password=access.password,
            user_credentials=RawCredentials(credentials) if credentials is not None else None,
            nkeys_seed_str=seed,
            tls=access.tls,
        )
        stream = client.jetstream(timeout=TIMEOUT)
        self.reports.values = await self._bucket(
            stream, "reports", ttl=TTL, storage=StorageType.MEMORY, direct=True
        )
        # Read from the leader: a replica that lags behind would have us write in vain.
        self.rows.values = await self._bucket(stream, "rows", storage=StorageType.FILE)
        self.files.store = await self._files(stream)
        self.calls.client = client

    async def _bucket(self, stream: JetStreamContext, name: str, **more: Any) -> KeyValue:
        bucket = f"{self._access.prefix}-{name}"
        try:
            return await stream.key_value(bucket)
        except BucketNotFoundError:
            config = KeyValueConfig(bucket, replicas=self._access.replicas, **more)
            return await stream.create_key_value(config)

    async def _files(self, stream: JetStreamContext) -> ObjectStore:
        bucket = f"{self._access.prefix}-files"
        try:
            return await stream.object_store(bucket)
        except NotFoundError:
            return await stream.create_object_store(bucket, replicas=self._access.replicas)

    def _shown(self) -> str:
        """Return the key of what is shown to the servers."""
        if self._access.credentials is not None:
            return "cluster.nats.credentials_file"
        return "cluster.nats.nkey_file" if self._access.nkey is not None else "cluster.nats.user"


def _read(path: Path | None, form: Form) -> str | None:
    return read_proof(path, form) if path is not None else None
