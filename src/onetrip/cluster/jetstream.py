"""NATS JetStream as the `Bus` of `cluster/bus`; the only user of nats-py."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyDeletedError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
    ObjectNotFoundError,
)
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from onetrip.cluster.bus import Change, OnChange
from onetrip.cluster.nats_proof import CREDENTIALS, NKEY, Form, read_proof
from onetrip.errors import Kind, PeerError
from onetrip.model.topology import RegionId

TIMEOUT = 5.0
"""Seconds that connecting or one call may take."""

FILE_TIMEOUT = 120.0
"""Seconds that a file of 32 MB may take: 2 Mbit/s."""

TTL = 600.0
"""Seconds after which a report that nobody renews is gone; `pace.LONGEST` is far below."""

Outcome = TypeVar("Outcome")

FAILURES = (Error, OSError, TimeoutError, asyncio.InvalidStateError)

WRONG_REVISION = (10071, 10164)
"""Codes of the server: there is a newer revision (`KeyValue.delete` does not translate them)."""

ANSWERS = (KeyNotFoundError, KeyDeletedError, KeyWrongLastSequenceError, ObjectNotFoundError)
"""Failures of the library that tell what is in a store."""


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
        self._said = ""
        self.reports = JetStreamBucket(self)
        self.rows = JetStreamBucket(self)
        self.files = JetStreamFiles(self)
        self.calls = NatsCalls(self, access)

    async def connect(self) -> None:
        """Connect and open the buckets.

        Raises:
            PeerError: no server can be reached, refuses us, or has no JetStream.
        """
        self._client = client = Client()
        self._said = ""
        try:
            await asyncio.wait_for(self._open(client), 4 * TIMEOUT)
        except FAILURES as error:
            said = self._said or _reason(error)
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
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(client.close(), TIMEOUT)

    async def call(self, what: str, work: Awaitable[Outcome], timeout: float = TIMEOUT) -> Outcome:
        """Return the outcome of a call.

        Raises:
            PeerError: it failed, other than by one of `ANSWERS`.
        """
        try:
            return await asyncio.wait_for(work, timeout)
        except ANSWERS:
            raise
        except FAILURES as error:
            raise PeerError(f"cluster.nats: {what}: {self._said or _reason(error)}") from error

    async def _open(self, client: Client) -> None:
        access = self._access
        credentials = _read(access.credentials, CREDENTIALS)
        seed = _read(access.nkey, NKEY)
        await client.connect(
            servers=list(access.servers),
            name=f"onetrip {access.region}",
            inbox_prefix=f"_INBOX.{access.region}",  # replies to others can be kept from us
            error_cb=self._note,
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

    async def _note(self, error: Exception) -> None:
        self._said = _reason(error)


class JetStreamBucket:
    """A key-value bucket."""

    def __init__(self, bus: JetStreamBus) -> None:
        self._bus = bus
        self.values: KeyValue | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._failure = ""

    async def put(self, key: str, value: bytes) -> None:
        """See `Bucket`."""
        await self._bus.call(f"{key} not written", self._open().put(key, value))

    async def swap(self, key: str, value: bytes, revision: int) -> bool:
        """See `Bucket`."""
        work = self._open().update(key, value, revision)
        try:
            await self._bus.call(f"{key} not written", work)
        except KeyWrongLastSequenceError:
            return False
        return True

    async def delete(self, key: str, revision: int) -> None:
        """See `Bucket`."""
        await self._bus.call(f"{key} not deleted", _delete(self._open(), key, revision))

    async def get(self, key: str) -> Change | None:
        """See `Bucket`."""
        try:
            entry = await self._bus.call(f"{key} not read", self._open().get(key))
        except (KeyNotFoundError, KeyDeletedError) as error:
            gone = error.entry
            return Change(key, None, gone.revision) if gone is not None else None
        return Change(key, entry.value, entry.revision or 0)

    async def watch(self, pattern: str, on_change: OnChange) -> None:
        """See `Bucket`; takes the place of the watch before."""
        if self._watcher is not None:
            self._watcher.cancel()
        found = await self._bus.call(f"{pattern} not watched", self._open().watch(pattern))
        self._watcher = asyncio.create_task(_follow(found, on_change), name="nats-watch")
        self._watcher.add_done_callback(self._watch_ended)

    def leave(self) -> None:
        """Forget a connection that ends."""
        self.values = None
        self._failure = ""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        """Have the next call fail after a watch that ended by itself, so that all begins anew."""
        if not task.cancelled() and task is self._watcher:
            self._failure = f"the watch ended: {task.exception()!r}"
            self.values = None

    def _open(self) -> KeyValue:
        if self.values is None:
            raise PeerError(f"cluster.nats: {self._failure or 'not connected'}", kind=Kind.CONNECT)
        return self.values


class JetStreamFiles:
    """An object store."""

    def __init__(self, bus: JetStreamBus) -> None:
        self._bus = bus
        self.store: ObjectStore | None = None

    async def put(self, name: str, data: bytes) -> None:
        """See `Files`."""
        await self._bus.call(f"{name} not written", self._open().put(name, data), FILE_TIMEOUT)

    async def has(self, name: str) -> bool:
        """See `Files`."""
        try:
            await self._bus.call(f"{name} not found", self._open().get_info(name))
        except ObjectNotFoundError:
            return False
        return True

    async def get(self, name: str) -> bytes | None:
        """See `Files`."""
        data = io.BytesIO()  # without it, each chunk would copy all before it
        try:
            await self._bus.call(f"{name} not read", self._open().get(name, data), FILE_TIMEOUT)
        except ObjectNotFoundError:
            return None
        return data.getvalue()

    async def delete(self, name: str) -> None:
        """See `Files`."""
        with contextlib.suppress(ObjectNotFoundError):
            await self._bus.call(f"{name} not deleted", self._open().delete(name))

    def _open(self) -> ObjectStore:
        if self.store is None:
            raise PeerError("cluster.nats: not connected", kind=Kind.CONNECT)
        return self.store


class NatsCalls:
    """Requests and replies of NATS itself, on a subject for each region."""

    def __init__(self, bus: JetStreamBus, access: Access) -> None:
        self._bus = bus
        self._region = access.region
        self._subject = f"{access.prefix}.ask"
        self.client: Client | None = None

    async def serve(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """See `Calls`."""

        async def reply(message: Msg) -> None:
            with contextlib.suppress(*FAILURES):
                await message.respond(await answer(message.data))

        subject = f"{self._subject}.{self._region}"
        work = self._open().subscribe(subject, cb=reply)
        await self._bus.call(f"{subject} not answered", work)

    async def ask(self, region: RegionId, question: bytes) -> bytes:
        """See `Calls`."""
        work = self._open().request(f"{self._subject}.{region}", question, TIMEOUT)
        return bytes((await self._bus.call(f"peer {region} not asked", work)).data)

    def _open(self) -> Client:
        if self.client is None:
            raise PeerError("cluster.nats: not connected", kind=Kind.CONNECT)
        return self.client


async def _delete(values: KeyValue, key: str, revision: int) -> None:
    try:
        await values.delete(key, revision)
    except APIError as error:
        if error.err_code not in WRONG_REVISION:
            raise


async def _follow(watcher: KeyValue.KeyWatcher, on_change: OnChange) -> None:
    try:
        async for entry in watcher:
            if entry is None:
                on_change(None)
            else:
                value = entry.value if entry.operation is None else None
                on_change(Change(entry.key, value, entry.revision or 0))
    finally:
        with contextlib.suppress(*FAILURES):
            await watcher.stop()  # type: ignore[no-untyped-call]


def _read(path: Path | None, form: Form) -> str | None:
    return read_proof(path, form) if path is not None else None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
