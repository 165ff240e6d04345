"""Declared things on their way between nodes: rows as MessagePack, checked on arrival."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from onetrip.errors import Kind, PeerError
from onetrip.model.resource import Resource
from onetrip.release.registry import MAX_BODY, MAX_ROWS

ROWS = "resources"
"""Name under which nodes share them."""

MAX_NAME = 300
"""Characters of a project or name."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Resource])


def encode_rows(rows: Sequence[Resource]) -> bytes:
    """Return rows as bytes."""
    return _ENCODER.encode(rows)


def decode_rows(data: bytes) -> list[Resource]:
    """Decode and check a peer's rows; what their bodies say is checked where they are read.

    Raises:
        PeerError: the bytes are no rows, or a value is out of its range.
    """
    try:
        rows = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PeerError(f"resources cannot be read: {error}", kind=Kind.MALFORMED) from error
    if len(rows) > MAX_ROWS:
        raise PeerError(f"{len(rows)} resources exceed limit of {MAX_ROWS}")
    for row in rows:
        name = f"{row.key.kind.value} {row.key.name[:40]!r}"
        if max(len(row.key.project), len(row.key.name), len(row.origin)) > MAX_NAME:
            raise PeerError(f"a name of {name} exceeds limit of {MAX_NAME} characters")
        if len(row.body) > MAX_BODY:
            raise PeerError(f"{name} of {len(row.body)} bytes exceeds limit of {MAX_BODY}")
        if not 0 <= row.version <= 2**53 or not math.isfinite(row.at):
            raise PeerError(f"version or time of {name} is out of range")
    return rows
