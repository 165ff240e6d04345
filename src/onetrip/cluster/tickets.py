"""Proof that a message between nodes comes from a holder of the cluster secret.

HMAC-SHA256 (RFC 2104) over the purpose and the bytes; requests carry a nonce that the reply is
bound to. It authenticates, it does not encrypt: between regions run it over a private network or
TLS (docs/security.md).
"""

from __future__ import annotations

import hashlib
import hmac


def sign(secret: bytes, purpose: str, *parts: bytes) -> str:
    """Return the hex MAC of `parts` for one purpose."""
    mac = hmac.new(secret, purpose.encode(), hashlib.sha256)
    for part in parts:
        # Lengths keep ("ab", "c") apart from ("a", "bc").
        mac.update(len(part).to_bytes(8, "big"))
        mac.update(part)
    return mac.hexdigest()


def verify(secret: bytes, mac: str, purpose: str, *parts: bytes) -> bool:
    """Tell, in constant time, whether `mac` is `sign` of the same arguments."""
    return hmac.compare_digest(mac.encode(), sign(secret, purpose, *parts).encode())
