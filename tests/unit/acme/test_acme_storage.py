"""Keys and certificates on disk: whole or not at all, and nobody else's to read."""

from __future__ import annotations

import os
import stat

import pytest

from onetrip.acme import storage as module
from onetrip.acme.storage import MAX_FILE_SIZE, Storage
from onetrip.errors import AcmeError, ConfigError

NOW = 1_750_000_000.0


@pytest.fixture
def kept(tmp_path):
    found = Storage(tmp_path / "acme", "https://ca.test:8443/dir")
    found.open(NOW)
    return found


def names(kept):
    return sorted(file.name for file in kept.folder.iterdir())


def test_what_was_saved_is_read_again(kept):
    assert kept.load("a.test") is None
    assert kept.load_account() is None
    assert kept.save("a.test", b"one", lambda path: path.read_bytes()) == b"one"
    kept.save("a.test", b"two", lambda path: None)
    kept.save_account(b"key")
    assert (kept.load("a.test"), kept.load_account()) == (b"two", b"key")
    assert names(kept) == ["a.test.pem", "account.key"]


def test_only_the_owner_can_read(kept):
    before = os.umask(0)
    try:
        kept.save("a.test", b"one", lambda path: None)
        kept.save_account(b"key")
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in kept.folder.iterdir()} == {0o600}


@pytest.mark.parametrize("step", ["write", "check", "rename"])
def test_crash_at_any_step_leaves_the_old_pair(kept, step, monkeypatch):
    kept.save("a.test", b"old", lambda path: None)

    class CrashError(BaseException):
        """As sudden as the power going off, but for what stays in memory."""

    def crash(*_):
        raise CrashError

    check = crash if step == "check" else lambda path: None
    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(module.os, "fsync", crash)
        if step == "rename":
            patch.setattr(module.Path, "replace", crash)
        # Not even the cleaning up happens when the power goes off.
        patch.setattr(module.Path, "unlink", lambda *_, **__: None)
        with pytest.raises(CrashError):
            kept.save("a.test", b"new", check)
    assert kept.load("a.test") == b"old"
    assert len(names(kept)) == 2
    [partial] = kept.folder.glob(".partial-*")
    os.utime(partial, (NOW, NOW))
    kept.open(NOW + 30)
    assert len(names(kept)) == 2  # another process may be writing it
    kept.open(NOW + 61)
    assert names(kept) == ["a.test.pem"]


def test_file_that_is_refused_leaves_the_old_one(kept):
    def refuse(path):
        raise ConfigError("no")

    kept.save("a.test", b"old", lambda path: None)
    with pytest.raises(ConfigError):
        kept.save("a.test", b"new", refuse)
    assert (kept.load("a.test"), names(kept)) == (b"old", ["a.test.pem"])


def test_each_directory_has_a_folder_of_its_own(tmp_path):
    found = {
        Storage(tmp_path, url).folder
        for url in ("https://ca.test/dir", "https://ca.test/staging", "https://ca.test:444/dir")
    }
    assert len(found) == 3
    assert all(folder.name.startswith("ca.test-") for folder in found)


def test_folder_that_cannot_be_made_is_told_by_name(tmp_path):
    (tmp_path / "acme").write_text("a file")
    with pytest.raises(AcmeError, match=r"acme/ca.test-\w+ cannot be made: Not a directory"):
        Storage(tmp_path / "acme", "https://ca.test/dir").open(NOW)


def test_file_is_read_up_to_a_limit(kept):
    kept.path("a.test").write_bytes(b"x" * (MAX_FILE_SIZE + 1))
    with pytest.raises(AcmeError, match="exceeds limit of 262144 bytes"):
        kept.load("a.test")
