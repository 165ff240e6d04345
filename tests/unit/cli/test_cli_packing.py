"""Folders as bundles: the same bytes anywhere, and nothing that must not leave."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from onetrip.cli.packing import pack
from onetrip.errors import ConfigError


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def test_same_files_are_the_same_bytes(tmp_path: Path):
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "b").mkdir(parents=True)
        (folder / "b" / "x.css").write_text("x")
        (folder / "a.html").write_text("a")
        os.utime(folder / "a.html", (1, len(name)))
    (tmp_path / "two" / "a.html").chmod(0o600)
    one, two = pack(tmp_path / "one"), pack(tmp_path / "two")
    assert one == two
    assert names(one) == ["a.html", "b/x.css"]


def test_hidden_files_stay_but_for_the_well_known(tmp_path: Path):
    for name in (".env", ".git/config", ".well-known/security.txt", "index.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names(pack(tmp_path)) == [".well-known/security.txt", "index.html"]


def test_what_is_no_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no files"):
        pack(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        pack(tmp_path / "none")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="symbolic link"):
        pack(tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        pack(tmp_path)
