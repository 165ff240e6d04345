"""Bundles of files: what is taken, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from onetrip.app import unpacking
from onetrip.app.unpacking import unpack
from onetrip.errors import ApiError


def tar(*members: tuple[str, bytes | None] | tarfile.TarInfo) -> bytes:
    """Return a gzipped tar; a member without content is a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_are_where_their_names_say(tmp_path: Path):
    data = tar(("./", None), ("./index.html", b"home"), ("a", None), ("a/b.css", b"x"))
    bundle = unpack(tmp_path, data, ".tar.gz")
    assert bundle.digest == sha256(data).hexdigest()
    assert (bundle.files, bundle.size) == (2, 5)
    folder = tmp_path / bundle.digest
    assert (folder / "index.html").read_bytes() == b"home"
    assert (folder / "a" / "b.css").read_bytes() == b"x"
    assert (tmp_path / f"{bundle.digest}.tar.gz").read_bytes() == data
    assert unpack(tmp_path, data, ".tar.gz") == bundle
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        bundle.digest,
        f"{bundle.digest}.tar.gz",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no gzipped tar"),
        (b"plain text", "no gzipped tar"),
        (gzip.compress(b"x" * 2000), "no gzipped tar"),
        (tar(("a", b"1" * 5000))[:-20], "no gzipped tar"),
        (tar(), "no files"),
        (tar(("a", None)), "no files"),
        (tar(("../a", b"")), "no plain relative path"),
        (tar(("a/../../b", b"")), "no plain relative path"),
        (tar(("/a", b"")), "no plain relative path"),
        (tar(("a\\b", b"")), "no plain relative path"),
        (tar(("a\x01b", b"")), "no plain relative path"),
        (tar(("x" * 256, b"")), "no plain relative path"),
        (tar(("/".join("a" * 33), b"")), "too long"),
        (tar(("a", b""), ("a", b"")), "twice"),
        (tar(("a", b""), ("a/b", b"")), "twice"),
        (tar(special("a", tarfile.SYMTYPE)), "neither a file nor a folder"),
        (tar(special("a", tarfile.LNKTYPE)), "neither a file nor a folder"),
        (tar(special("a", tarfile.FIFOTYPE)), "neither a file nor a folder"),
        (tar(special("a", tarfile.CHRTYPE)), "neither a file nor a folder"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(tmp_path: Path, data, reason):
    with pytest.raises(ApiError, match=reason) as refusal:
        unpack(tmp_path, data, ".tar.gz")
    assert refusal.value.field == "body"
    assert list(tmp_path.iterdir()) == []


def test_number_and_size_of_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "MAX_FILES", 2)
    with pytest.raises(ApiError, match="bundle of 3 files exceeds limit of 2"):
        unpack(tmp_path, tar(("a", b""), ("b", b""), ("c", b"")), ".tar.gz")
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 10)
    with pytest.raises(ApiError, match="files of 11 bytes exceed limit of 10"):
        unpack(tmp_path, tar(("a", b"x" * 11)), ".tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_gzip_that_unpacks_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 1000)
    monkeypatch.setattr(unpacking, "MAX_FILES", 10)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 4 * 1024**3  # as it claims
    bomb = gzip.compress(header.tobuf() + b"\0" * 10_000_000)
    with pytest.raises(ApiError, match="more than 1000 bytes"):
        unpack(tmp_path, bomb, ".tar.gz")
    assert list(tmp_path.iterdir()) == []
