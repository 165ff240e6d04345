"""Files that prove to a NATS server who a node is; read for each connection, so they may change.

Checked before the library reads them: it would look for the marks of a `.creds` file for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from onetrip.errors import Kind, PeerError

MAX_SIZE = 64 * 1024
"""Bytes of a file; a token has about 1 kB."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a file has to hold, and how it is called."""

    key: str
    pattern: re.Pattern[str]
    meaning: str


CREDENTIALS = Form(
    "cluster.nats.credentials_file",
    re.compile(
        r"-+BEGIN NATS USER JWT-+\r?\n[A-Za-z0-9._-]+\r?\n.*"
        r"-+BEGIN USER NKEY SEED-+\r?\nSU[A-Z2-7]{56}\r?\n",
        re.DOTALL,
    ),
    "a user's credentials as `nsc` writes them: 'BEGIN NATS USER JWT', 'BEGIN USER NKEY SEED'",
)
NKEY = Form(
    "cluster.nats.nkey_file",
    re.compile(r"\s*SU[A-Z2-7]{56}\s*\Z"),
    "the seed of a user's nkey: 58 characters that begin with SU",
)


def read_proof(path: Path, form: Form) -> str:
    """Return what a file holds.

    Raises:
        PeerError: it cannot be read or is not of the form; the message holds nothing of it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SIZE).decode("ascii", "replace")
    except OSError as error:
        reason = error.strerror or error
        raise PeerError(f"{form.key}: {path}: {reason}", kind=Kind.CONFIG) from error
    if not form.pattern.search(text):
        raise PeerError(f"{form.key}: {path} is not {form.meaning}", kind=Kind.CONFIG)
    return text
