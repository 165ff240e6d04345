"""The bundles of a node: kept over restarts, found by digest, dropped when nothing needs them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from onetrip.app.bundles import LEAST_AGE, Bundles
from onetrip.errors import ApiError, Kind


def bundle(text: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("index.html")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return packed.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def wall() -> float:
    return 1_000_000.0


async def test_bundle_is_found_after_a_restart_and_given_to_others(tmp_path: Path):
    first = Bundles(tmp_path / "assets", 10_000, wall)
    await first.open()
    kept = await first.keep(bundle(b"home"))
    (tmp_path / "assets" / "new-left").mkdir()

    second = Bundles(tmp_path / "assets", 10_000, wall)
    assert second.find(kept.digest) is None
    await second.open()
    folder = second.find(kept.digest)
    assert folder is not None
    assert (Path(folder) / "index.html").read_bytes() == b"home"
    assert not (tmp_path / "assets" / "new-left").exists()
    packed = await second.packed(kept.digest)
    assert packed is not None
    assert (await Bundles(tmp_path / "other", 10_000, wall).keep(packed)).digest == kept.digest
    assert await second.packed("0" * 64) is None


async def test_bundle_that_nothing_needs_goes_after_a_while(tmp_path: Path):
    bundles = Bundles(tmp_path, 10_000, wall)
    one, two = await bundles.keep(bundle(b"1")), await bundles.keep(bundle(b"2"))
    await bundles.prune({one.digest}, wall() + LEAST_AGE)
    assert bundles.find(two.digest) is not None
    await bundles.prune({one.digest}, wall() + LEAST_AGE + 1)
    assert (bundles.find(one.digest) is None, bundles.find(two.digest)) == (False, None)
    assert names(tmp_path) == [one.digest, f"{one.digest}.tar.gz"]


async def test_bundle_above_the_limit_or_without_a_disk_is_refused(tmp_path: Path):
    with pytest.raises(ApiError, match="exceeds limit of 10") as refusal:
        await Bundles(tmp_path, 10, wall).keep(bundle(b"1"))
    assert refusal.value.kind is Kind.BODY_TOO_LARGE
    with pytest.raises(ApiError, match="set data_dir") as refusal:
        await Bundles(None, 10_000, wall).keep(bundle(b"1"))
    assert refusal.value.kind is Kind.CONFLICT


async def test_disk_that_refuses_keeps_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ApiError, match="cannot be kept") as refusal:
        await Bundles(tmp_path / "file" / "assets", 10_000, wall).keep(bundle(b"1"))
    assert refusal.value.kind is Kind.UNAVAILABLE
