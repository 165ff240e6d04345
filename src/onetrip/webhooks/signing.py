"""Signatures of webhooks, by the Standard Webhooks specification, version 1.0 (scheme `v1`).

The receiver computes HMAC-SHA256 over `id.timestamp.body` with the shared key, compares it with one
of the signatures, and refuses a timestamp that is far from its own time, so that nobody can send
an old message again. Source: https://github.com/standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

from onetrip.errors import ConfigError

PREFIX = "whsec_"

LEAST_KEY, MOST_KEY = 24, 64
"""Bytes of a key, as the specification wants."""

MAX_KEYS = 2
"""The key in use and the one before it."""


def parse_keys(text: str, key: str) -> tuple[bytes, ...]:
    """Return the keys of a secret: `whsec_…`, or two of them with a space or line in between.

    Args:
        key: where the secret is configured, for the error.

    Raises:
        ConfigError: it is none; the message does not hold it.
    """
    words = text.split()
    if not 1 <= len(words) <= MAX_KEYS:
        raise ConfigError(f"{key}: {len(words)} secrets are not 1 or {MAX_KEYS}")
    return tuple(_key(word, key) for word in words)


def _key(word: str, key: str) -> bytes:
    try:
        found = base64.b64decode(word.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not word.startswith(PREFIX) or not LEAST_KEY <= len(found) <= MOST_KEY:
        raise ConfigError(
            f"{key}: the secret is not {PREFIX} and {LEAST_KEY}-{MOST_KEY} bytes in base64"
        )
    return found


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """Return one signature of a message."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def fields(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the header fields of a message.

    Args:
        timestamp: of this attempt, Unix time in s.
    """
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(key, id, timestamp, body) for key in keys),
    }
