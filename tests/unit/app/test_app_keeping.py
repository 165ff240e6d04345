"""What a node keeps on disk: when it began, so that a clock that is set back orders no report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onetrip.app.keeping import Keeper
from onetrip.control.store import Store, StoreError


async def begun(folder: Path | None, *times: float) -> list[float]:
    """Return when runs began, by a clock that says `times`."""
    found: list[float] = []
    for wall in times:
        keeper = made(folder)
        await keeper.open()
        found.append(await keeper.begin(wall))
        await keeper.close()
    return found


def made(folder: Path | None) -> Keeper:
    return Keeper(folder, **dict.fromkeys(("traffic", "scorer", "clock", "log")), **parts())


def parts() -> dict[str, Any]:
    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: None

    return {"cluster": Nothing(), "events": Nothing()}


async def test_a_run_begins_after_the_one_before_whatever_the_clock_says(tmp_path: Path) -> None:
    assert await begun(tmp_path, 1000.0, 2000.0, 1700.0, 1700.0, 5000.0) == [
        1000.0,
        2000.0,
        2001.0,
        2002.0,
        5000.0,
    ]


async def test_without_a_store_the_clock_is_all_there_is() -> None:
    assert await begun(None, 2000.0, 1700.0) == [2000.0, 1700.0]


async def test_a_disk_that_is_full_keeps_no_node_from_starting(tmp_path: Path, monkeypatch) -> None:
    await begun(tmp_path, 2000.0)

    def refuse(store: Store, name: str, data: bytes) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(Store, "save_blob", refuse)
    assert await begun(tmp_path, 1700.0) == [2001.0]
