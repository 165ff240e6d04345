"""The state file: what was acknowledged is there after a crash, and a bad file is refused."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onetrip.control import store as module
from onetrip.control.store import AsyncStore, Store, StoredPolicy, StoreError
from onetrip.errors import ConfigError
from onetrip.model.catalog import Mode
from onetrip.model.status import Event, PolicyChange
from onetrip.model.topology import RegionId

DEN, BOM = RegionId("den"), RegionId("bom")


def policy(version: int, origin: RegionId = DEN, **change: object) -> StoredPolicy:
    wanted = PolicyChange(**(change or {"mode": Mode.SMART}))  # type: ignore[arg-type]
    return StoredPolicy("shop", wanted, "digest", version, origin)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    found = Store(path)
    yield found
    found.close()


@pytest.mark.parametrize(
    "change",
    [
        PolicyChange(),
        PolicyChange(mode=Mode.OFF),
        PolicyChange(hint=""),
        PolicyChange(hint="bom", control_ratio=0.0, explore_ratio=0.25),
        PolicyChange(mode=Mode.SMART, share=0.1),
    ],
)
def test_policy_is_the_same_after_reopening(path: Path, store: Store, change: PolicyChange) -> None:
    kept = StoredPolicy("shop", change, "abc", 7, BOM)
    assert store.put_policy(kept)
    store.close()
    again = Store(path)
    assert again.get_policy("shop") == kept
    assert again.list_policies() == [kept]
    again.close()


def test_later_change_wins_in_any_order(store: Store) -> None:
    late, early = policy(3, control_ratio=0.1), policy(2, control_ratio=0.2)
    assert store.put_policy(late)
    assert not store.put_policy(early)
    assert store.get_policy("shop") == late


def test_equal_versions_are_ordered_by_origin(store: Store) -> None:
    assert store.put_policy(policy(2, DEN))
    assert not store.put_policy(policy(2, BOM))
    assert store.get_policy("shop") == policy(2, DEN)


def test_replayed_change_is_harmless(store: Store) -> None:
    assert store.put_policy(policy(2))
    assert store.put_policy(policy(2))
    assert store.list_policies() == [policy(2)]


def test_deleted_policy_is_gone(store: Store) -> None:
    store.put_policy(policy(1))
    assert store.delete_policy("shop")
    assert not store.delete_policy("shop")
    assert store.get_policy("shop") is None


def test_blob_is_replaced_and_read_back(store: Store) -> None:
    assert store.load_blob("learned") is None
    for data in (b"", b"one", bytes(range(256)) * 100):
        store.save_blob("learned", data)
        assert store.load_blob("learned") == data


def test_oversized_blob_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BLOB", 10)
    with pytest.raises(StoreError, match="11 bytes exceeds limit of 10"):
        store.save_blob("learned", b"x" * 11)
    assert store.load_blob("learned") is None


def test_blob_with_a_flipped_bit_is_not_learned_from(path: Path, store: Store) -> None:
    store.save_blob("learned", b"statistics")
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE blobs SET data = ?", (b"statistica",))
    db.close()
    again = Store(path)
    assert again.load_blob("learned") is None
    again.close()


def test_events_are_bounded_and_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 20)
    for n in range(50):
        store.append_event(Event(float(n), "place.moved", "shop", "x" * 5000))
    events = store.list_events(1000)
    assert [e.at for e in events] == [float(n) for n in range(49, 29, -1)]
    assert len(events[0].detail) == module.MAX_TEXT
    assert [e.at for e in store.list_events(2)] == [49.0, 48.0]


def test_schema_is_durable(store: Store) -> None:
    assert store.read("PRAGMA journal_mode") == [("wal",)]
    assert store.read("PRAGMA synchronous") == [(2,)]


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_damaged_file_is_a_config_error_that_names_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"state\.db"):
        Store(path)
    assert path.read_bytes() == content


def test_damaged_page_is_found_at_the_start(path: Path) -> None:
    store = Store(path)
    for n in range(2000):
        store.append_event(Event(float(n), "place.moved", "shop", "y" * 200))
    store.close()
    data = bytearray(path.read_bytes())
    data[8192 : len(data) // 2] = b"\x5a" * (len(data) // 2 - 8192)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"state\.db"):
        Store(path)


def test_file_of_a_newer_version_is_refused(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {module.SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(ConfigError, match="schema 2, newer than the 1"):
        Store(path)


def test_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(ConfigError, match="another program"):
        Store(path)


def test_missing_folder_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        Store(tmp_path / "nowhere" / "state.db")


def test_full_disk_is_a_store_error_and_changes_nothing(store: Store) -> None:
    store.put_policy(policy(1))
    store._db.execute("PRAGMA max_page_count = 12")
    with pytest.raises(StoreError, match="full"):
        store.save_blob("learned", os.urandom(200_000))
    assert "full" in store.problem
    assert store.get_policy("shop") == policy(1)
    store.put_policy(policy(2))
    assert store.problem == ""
    assert store.get_policy("shop") == policy(2)


async def test_async_store_keeps_the_order_of_calls(path: Path) -> None:
    store = await AsyncStore.open(path)
    for version in (1, 2, 3):
        await store.put_policy(policy(version))
    await store.append_event(Event(1.0, "app.started", "den", ""))
    await store.save_blob("learned", b"x")
    assert await store.get_policy("shop") == policy(3)
    assert await store.list_policies() == [policy(3)]
    assert await store.load_blob("learned") == b"x"
    assert len(await store.list_events(10)) == 1
    assert await store.delete_policy("shop")
    await store.close()


async def test_async_store_passes_on_a_config_error(path: Path) -> None:
    with pytest.raises(ConfigError):
        await AsyncStore.open(path / "nowhere" / "state.db")


WRITER = """
import sys
from pathlib import Path
from onetrip.control.store import Store, StoredPolicy
from onetrip.model.status import PolicyChange

store = Store(Path(sys.argv[1]))
known = store.get_policy("shop")
version = known.version if known else 0
while True:
    version += 1
    store.put_policy(StoredPolicy("shop", PolicyChange(control_ratio=0.1), "d", version, "den"))
    store.save_blob("learned", str(version).encode())
    print(version, flush=True)
"""


def test_kill_in_a_loop_loses_no_acknowledged_write(path: Path) -> None:
    rng, last = random.Random(5), 0
    for _ in range(6):
        acknowledged = write_until_killed(path, rng.uniform(0.0, 0.15))
        store = Store(path)
        kept = store.get_policy("shop")
        blob = store.load_blob("learned")
        store.close()
        assert kept is not None
        assert blob is not None
        # The write after the last acknowledged one may or may not have happened.
        assert acknowledged <= kept.version <= acknowledged + 1
        assert acknowledged <= int(blob) <= kept.version
        assert kept.version > last
        last = kept.version


def write_until_killed(path: Path, delay: float) -> int:
    """Return the last version the writer acknowledged before kill -9."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
    whole = [int(line) for line in lines if line.strip()]
    return max(whole)
