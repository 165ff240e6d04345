"""The stores of NATS JetStream, and questions over NATS: what `cluster/jetstream` connects.

Each forgets its handle when the connection ends, and fails from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.errors import (
    APIError,
    KeyDeletedError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    ObjectNotFoundError,
)
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from onetrip.cluster.bus import Change, OnChange
from onetrip.errors import Kind, PeerError
from onetrip.model.topology import RegionId

TIMEOUT = 5.0
"""Seconds that connecting or one call may take."""

FILE_TIMEOUT = 120.0
"""Seconds that a file of 32 MB may take: 2 Mbit/s."""

Outcome = TypeVar("Outcome")

FAILURES = (Error, OSError, TimeoutError, asyncio.InvalidStateError)

WRONG_REVISION = (10071, 10164)
"""Codes of the server: there is a newer revision (`KeyValue.delete` does not translate them)."""

ANSWERS = (KeyNotFoundError, KeyDeletedError, KeyWrongLastSequenceError, ObjectNotFoundError)
"""Failures of the library that tell what is in a store."""


class Calling:
    """Bounds calls in time, and tells why one failed.

    Attributes:
        said: what the server said last, outside of a reply.
    """

    def __init__(self) -> None:
        self.said = ""
        self._refused = asyncio.Event()

    def begin(self) -> None:
        """Forget what was said on another connection."""
        self.said = ""

    async def note(self, error: Exception) -> None:
        """Take what the server says; nothing that is not permitted gets a reply."""
        self.said = reason_of(error)
        if "ermissions" in self.said:
            self._refused.set()  # whoever waits now
            self._refused.clear()

    async def call(self, what: str, work: Awaitable[Outcome], timeout: float = TIMEOUT) -> Outcome:
        """Return the outcome of a call.

        Raises:
            PeerError: it failed, other than by one of `ANSWERS`.
        """
        task = asyncio.ensure_future(work)
        refused = asyncio.ensure_future(self._refused.wait())
        first = asyncio.FIRST_COMPLETED
        try:
            await asyncio.wait({task, refused}, timeout=timeout, return_when=first)
            if not task.done():
                raise TimeoutError
            return task.result()
        except ANSWERS:
            raise
        except FAILURES as error:
            raise PeerError(f"cluster.nats: {what}: {self.said or reason_of(error)}") from error
        finally:
            task.cancel()
            refused.cancel()


class JetStreamBucket:
    """A key-value bucket."""

    def __init__(self, calling: Calling) -> None:
        self._calling = calling
        self.values: KeyValue | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._failure = ""

    async def put(self, key: str, value: bytes) -> None:
        """See `Bucket`."""
        await self._calling.call(f"{key} not written", self._open().put(key, value))

    async def swap(self, key: str, value: bytes, revision: int) -> bool:
        """See `Bucket`."""
        work = self._open().update(key, value, revision)
        try:
            await self._calling.call(f"{key} not written", work)
        except KeyWrongLastSequenceError:
            return False
        return True

    async def delete(self, key: str, revision: int) -> None:
        """See `Bucket`."""
        await self._calling.call(f"{key} not deleted", _delete(self._open(), key, revision))

    async def get(self, key: str) -> Change | None:
        """See `Bucket`."""
        try:
            entry = await self._calling.call(f"{key} not read", self._open().get(key))
        except (KeyNotFoundError, KeyDeletedError) as error:
            gone = error.entry
            return Change(key, None, gone.revision) if gone is not None else None
        return Change(key, entry.value, entry.revision or 0)

    async def watch(self, pattern: str, on_change: OnChange) -> None:
        """See `Bucket`; takes the place of the watch before."""
        if self._watcher is not None:
            self._watcher.cancel()
        found = await self._calling.call(f"{pattern} not watched", self._open().watch(pattern))
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

    def __init__(self, calling: Calling) -> None:
        self._calling = calling
        self.store: ObjectStore | None = None

    async def put(self, name: str, data: bytes) -> None:
        """See `Files`."""
        await self._calling.call(f"{name} not written", self._open().put(name, data), FILE_TIMEOUT)

    async def has(self, name: str) -> bool:
        """See `Files`."""
        try:
            await self._calling.call(f"{name} not found", self._open().get_info(name))
        except ObjectNotFoundError:
            return False
        return True

    async def get(self, name: str) -> bytes | None:
        """See `Files`."""
        data = io.BytesIO()  # without it, each chunk would copy all before it
        try:
            await self._calling.call(f"{name} not read", self._open().get(name, data), FILE_TIMEOUT)
        except ObjectNotFoundError:
            return None
        return data.getvalue()

    async def delete(self, name: str) -> None:
        """See `Files`."""
        with contextlib.suppress(ObjectNotFoundError):
            await self._calling.call(f"{name} not deleted", self._open().delete(name))

    def _open(self) -> ObjectStore:
        if self.store is None:
            raise PeerError("cluster.nats: not connected", kind=Kind.CONNECT)
        return self.store


class NatsCalls:
    """Requests and replies of NATS itself, on a subject for each region."""

    def __init__(self, calling: Calling, prefix: str, region: RegionId) -> None:
        self._calling = calling
        self._region = region
        self._subject = f"{prefix}.ask"
        self.client: Client | None = None

    async def serve(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """See `Calls`."""

        async def reply(message: Msg) -> None:
            with contextlib.suppress(*FAILURES):
                await message.respond(await answer(message.data))

        subject = f"{self._subject}.{self._region}"
        work = self._open().subscribe(subject, cb=reply)
        await self._calling.call(f"{subject} not answered", work)

    async def ask(self, region: RegionId, question: bytes) -> bytes:
        """See `Calls`."""
        work = self._open().request(f"{self._subject}.{region}", question, TIMEOUT)
        return bytes((await self._calling.call(f"peer {region} not asked", work)).data)

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


def reason_of(error: BaseException) -> str:
    """Return what an error says, or else its name."""
    return str(error) or type(error).__name__
