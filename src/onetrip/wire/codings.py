"""Which content coding a client gets, by its Accept-Encoding (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import re
from collections.abc import Collection

PREFERENCE = (b"br", b"zstd", b"gzip")
"""Among equally welcome codings the one that makes text smallest comes first."""

_MEMBER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9a-z-]+)"
    rb"(?:[ \t]*;[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def choose_coding(accept: bytes | None, available: Collection[bytes]) -> bytes:
    """Return the coding to send, or b"" for none.

    Args:
        accept: value of Accept-Encoding, None when absent; malformed members are ignored.
        available: codings at hand, apart from none at all.
    """
    if accept is None or not available:
        return b""
    weights = _weights(accept)
    rest = weights.get(b"*")
    best, best_weight = b"", 0.0
    for coding in PREFERENCE:
        if coding in available:
            weight = weights.get(coding, rest if rest is not None else 0.0)
            if weight > best_weight:
                best, best_weight = coding, weight
    # Unlisted, identity is acceptable but less than anything that is named.
    return b"" if weights.get(b"identity", 0.0) > best_weight else best


def _weights(accept: bytes) -> dict[bytes, float]:
    weights: dict[bytes, float] = {}
    for member in accept.lower().split(b",")[:32]:
        match = _MEMBER.fullmatch(member.strip(b" \t"))
        if match is not None:
            name = b"gzip" if match[1] == b"x-gzip" else match[1]
            weights[name] = 1.0 if match[2] is None else float(match[2])
    return weights
