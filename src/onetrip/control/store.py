"""What a node must remember over a restart: policy overrides, learned statistics, events.

One SQLite file in WAL mode with `synchronous=FULL`: a call that returned is on disk, so neither
kill -9 nor a power cut loses it (https://www.sqlite.org/pragma.html#pragma_synchronous). Every
call is idempotent and short. `Store` is synchronous and belongs to one thread at a time;
`AsyncStore` runs it on a thread of its own, so the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from onetrip.control.tables import ADDITIONS, APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from onetrip.errors import ConfigError, Kind, OnetripError
from onetrip.model.catalog import Mode
from onetrip.model.status import Event, PolicyChange
from onetrip.model.topology import RegionId

if TYPE_CHECKING:
    import sqlite3

MAX_EVENTS = 10_000
"""Events kept, about 2 MB; the oldest go first."""

MAX_BLOB = 64 * 1024 * 1024
"""Largest learned-statistics blob, bytes; far above what 10,000 projects need."""

MAX_TEXT = 1_000
"""Characters kept of each text of an event."""

BUSY_TIMEOUT = 5.0
"""Longest wait for another process's lock, s."""

P = ParamSpec("P")
T = TypeVar("T")


class StoreError(OnetripError):
    """The store could not do it (disk full, file locked, I/O error); nothing was changed."""

    kind = Kind.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A project's policy as changed at run time, over the one in the configuration.

    Attributes:
        change: the fields that differ from the configuration.
        base_digest: digest of the configured policy it was made over; when the configuration
            changes, its owner drops the override.
        version: grows with every change of the project; with `origin` it orders all changes.
        origin: region whose node took the change.
    """

    project: str
    change: PolicyChange
    base_digest: str
    version: int
    origin: RegionId


class Store:
    """The node's file.

    Args:
        path: where it is; created when absent.

    Attributes:
        problem: why the last change could not be written, "" if it was.

    Raises:
        ConfigError: it cannot be opened, is damaged, is another program's, or is too new.
    """

    def __init__(self, path: Path) -> None:
        import sqlite3  # takes 0.9 MB that a node without `data_dir` saves

        self.path = path
        self.problem = ""
        self._failure: type[Exception] = sqlite3.Error
        try:
            self._db = self._open()
        except (self._failure, OSError) as error:
            raise ConfigError(f"state file {path} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the file; repeated calls do nothing."""
        self._db.close()

    def get_policy(self, project: str) -> StoredPolicy | None:
        """Return the override of a project, or None."""
        rows = self.read(f"{_POLICIES} WHERE project = ?", (project,))
        return _policy_of(rows[0]) if rows else None

    def list_policies(self) -> list[StoredPolicy]:
        """Return every override, by project name."""
        return [_policy_of(row) for row in self.read(f"{_POLICIES} ORDER BY project")]

    def put_policy(self, policy: StoredPolicy) -> bool:
        """Keep an override unless a later one, by (version, origin), is kept already.

        Returns:
            False when the later one was kept; replaying a change is harmless.
        """
        with self.write() as db:
            return put_row(db, policy)

    def delete_policy(self, project: str) -> bool:
        """Forget an override; tell whether there was one."""
        with self.write() as db:
            return db.execute("DELETE FROM policies WHERE project = ?", (project,)).rowcount > 0

    def save_blob(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, replacing what was there.

        Raises:
            StoreError: `data` exceeds `MAX_BLOB`, or the disk refused it.
        """
        if len(data) > MAX_BLOB:
            raise StoreError(f"blob {name!r} of {len(data)} bytes exceeds limit of {MAX_BLOB}")
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", (name, zlib.crc32(data), data)
            )

    def load_blob(self, name: str) -> bytes | None:
        """Return the bytes kept under `name`; None when absent or no longer what was saved.

        SQLite does not checksum its pages, so a flipped bit would otherwise be learned from.
        """
        rows = self.read("SELECT crc, data FROM blobs WHERE name = ?", (name,))
        if not rows or zlib.crc32(rows[0][1]) != rows[0][0]:
            return None
        return bytes(rows[0][1])

    def append_event(self, event: Event) -> None:
        """Keep an event, dropping the oldest beyond `MAX_EVENTS`."""
        texts = (t[:MAX_TEXT] for t in (event.name, event.subject, event.detail))
        with self.write() as db:
            row = db.execute(
                "INSERT INTO events (at, name, subject, detail) VALUES (?, ?, ?, ?)",
                (event.at, *texts),
            ).lastrowid
            # Ids grow by one, so this needs no count of the table.
            db.execute("DELETE FROM events WHERE id <= ?", ((row or 0) - MAX_EVENTS,))

    def list_events(self, limit: int) -> list[Event]:
        """Return at most `limit` events, newest first."""
        rows = self.read(
            "SELECT at, name, subject, detail FROM events ORDER BY id DESC LIMIT ?", (limit,)
        )
        return [Event(*row) for row in rows]

    def _open(self) -> sqlite3.Connection:
        # isolation_level=None: transactions are begun here, never behind our back.
        import sqlite3

        db = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        app = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and app != APPLICATION_ID:
            raise ConfigError(f"state file {self.path} is the database of another program")
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"state file {self.path} has schema {version}, newer than the {SCHEMA_VERSION} "
                "this version of onetrip knows"
            )
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise ConfigError(f"state file {self.path} is damaged: {verdict}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not tables:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        db.executescript(f"BEGIN IMMEDIATE; {ADDITIONS} COMMIT;")

    def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            return self._db.execute(sql, values).fetchall()
        except self._failure as error:
            raise StoreError(f"state file {self.path} cannot be read: {error}") from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction: all of it is on disk afterwards, or nothing.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
                self.problem = ""
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except self._failure as error:
            self.problem = f"state file {self.path} cannot be written: {error}"
            raise StoreError(self.problem) from error


class AsyncStore:
    """A store on a thread of its own: calls run one at a time, in the order they were made.

    `await store.call(Store.put_policy, policy)`; a cancelled call may still be carried out.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    @classmethod
    async def open(cls, path: Path) -> AsyncStore:
        """Open the file off the event loop.

        Raises:
            ConfigError: as `Store`.
        """
        return cls(await asyncio.to_thread(Store, path))

    @property
    def problem(self) -> str:
        """Why the last change could not be written, "" if it was."""
        return self._store.problem

    async def call(
        self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an unbound method of `Store` with its arguments on the store's thread."""
        work = partial(method, self._store, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def get_policy(self, project: str) -> StoredPolicy | None:
        """As `Store.get_policy`."""
        return await self.call(Store.get_policy, project)

    async def list_policies(self) -> list[StoredPolicy]:
        """As `Store.list_policies`."""
        return await self.call(Store.list_policies)

    async def put_policy(self, policy: StoredPolicy) -> bool:
        """As `Store.put_policy`."""
        return await self.call(Store.put_policy, policy)

    async def delete_policy(self, project: str) -> bool:
        """As `Store.delete_policy`."""
        return await self.call(Store.delete_policy, project)

    async def save_blob(self, name: str, data: bytes) -> None:
        """As `Store.save_blob`."""
        await self.call(Store.save_blob, name, data)

    async def load_blob(self, name: str) -> bytes | None:
        """As `Store.load_blob`."""
        return await self.call(Store.load_blob, name)

    async def append_event(self, event: Event) -> None:
        """As `Store.append_event`."""
        await self.call(Store.append_event, event)

    async def list_events(self, limit: int) -> list[Event]:
        """As `Store.list_events`."""
        return await self.call(Store.list_events, limit)

    async def close(self) -> None:
        """Finish what was queued and close the file."""
        await self.call(Store.close)
        self._thread.shutdown(wait=False)


_POLICIES = (
    "SELECT policies.*, share FROM policies LEFT JOIN shares USING (project, version, origin)"
)


def put_row(db: sqlite3.Connection, policy: StoredPolicy) -> bool:
    """Keep an override within a transaction; see `Store.put_policy`."""
    values = (policy.project, *fields_of(policy.change), policy.base_digest)
    if policy.change.share is not None:
        place = (policy.project, policy.version, policy.origin, policy.change.share)
        db.execute("INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?)", place)
    done = db.execute(
        "INSERT INTO policies VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (project) DO UPDATE SET mode = excluded.mode, hint = excluded.hint, "
        "control_ratio = excluded.control_ratio, explore_ratio = excluded.explore_ratio, "
        "base_digest = excluded.base_digest, version = excluded.version, "
        "origin = excluded.origin "
        "WHERE (excluded.version, excluded.origin) >= (version, origin)",
        (*values, policy.version, policy.origin),
    )
    return done.rowcount > 0


def fields_of(change: PolicyChange) -> tuple[str | None, str | None, float | None, float | None]:
    """Return the columns of a change, but for its share; `change_of` reads them all."""
    mode = change.mode.value if change.mode else None
    return mode, change.hint, change.control_ratio, change.explore_ratio


def change_of(
    mode: str | None,
    hint: str | None,
    control: float | None,
    explore: float | None,
    share: float | None,
) -> PolicyChange:
    """Return the change of a row's columns."""
    return PolicyChange(Mode(mode) if mode else None, hint, control, explore, share)


def _policy_of(row: tuple[Any, ...]) -> StoredPolicy:
    project, mode, hint, control, explore, digest, version, origin, share = row
    change = change_of(mode, hint, control, explore, share)
    return StoredPolicy(project, change, digest, version, RegionId(origin))
