"""Where commands take their bearer token from."""

from __future__ import annotations

import os
from pathlib import Path

from onetrip.errors import ConfigError

MAX_TOKEN = 4096
"""Largest token file, bytes."""


def read_token(file: Path | None) -> str | None:
    """Return the token in `file`, or the one in ONETRIP_TOKEN; None without either.

    Raises:
        ConfigError: the file cannot be read or is too large.
    """
    if file is None:
        return os.environ.get("ONETRIP_TOKEN") or None
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_TOKEN + 1)
    except OSError as error:
        raise ConfigError(f"token file {file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_TOKEN:
        raise ConfigError(f"token file {file} exceeds limit of {MAX_TOKEN} bytes")
    return data.decode("ascii", errors="replace").strip()
