"""From a request path to the place of a file, or to nothing: no encoding leads out.

A path is decoded once, and then it must be plain: UTF-8 (so no overlong forms), no control byte,
no backslash, no empty or dot segment, and no slash that was encoded. Servers disagree about what
such paths mean, so they name no file here and go on to the instance. Names that begin with a dot
are private (`.git`, `.env`), except for `/.well-known/` (RFC 8615).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MAX_PATH = 1024
"""Decoded bytes of a path; longer ones are looked up nowhere."""

MAX_DEPTH = 32
MAX_NAME = 255
"""Bytes of one name: the limit of the usual file systems."""

_ODD = re.compile(rb"[\x00-\x1f\x7f\\]")
_ENCODED_SLASH = re.compile(rb"%(?:2[fF]|5[cC])|%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class AssetPath:
    """Where a file may be.

    Attributes:
        parts: names of the folders and of the file, from the root on.
        is_folder: the path ended with a slash.
    """

    parts: tuple[str, ...]
    is_folder: bool


def asset_path(target: bytes, prefix: str) -> AssetPath | None:
    """Return the place that a request target names below `prefix`; None if it names none."""
    raw = target.partition(b"?")[0]
    if len(raw) > 3 * MAX_PATH or _ENCODED_SLASH.search(raw):
        return None
    path = unquote_to_bytes(raw) if b"%" in raw else raw
    if len(path) > MAX_PATH or _ODD.search(path):
        return None
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    base = "/" + prefix.strip("/")
    if base != "/":
        if text == base:
            return None  # without the slash it is no folder below the prefix
        if not text.startswith(base + "/"):
            return None
        text = text[len(base) :]
    return plain_path(text)


def plain_path(text: str) -> AssetPath | None:
    """Return the place that an absolute, decoded path names; None if it is not plain."""
    if not text.startswith("/"):
        return None
    is_folder = text.endswith("/")
    body = text[1:-1] if is_folder else text[1:]
    parts = tuple(body.split("/")) if body else ()
    if len(parts) > MAX_DEPTH or (is_folder and not body and text != "/"):
        return None
    for number, part in enumerate(parts):
        if not part or len(part.encode()) > MAX_NAME:
            return None
        if part.startswith(".") and (number or part != ".well-known"):
            return None
    return AssetPath(parts, is_folder)
