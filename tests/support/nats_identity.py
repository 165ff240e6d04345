"""Identities for a NATS server in tests: nkeys, and the tokens of an operator, account and user.

The tokens are those of `nsc` (JWT with algorithm `ed25519-nkey`), with the least that a server asks
for.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import nkeys

OPERATOR, ACCOUNT, USER = (
    nkeys.PREFIX_BYTE_OPERATOR,
    nkeys.PREFIX_BYTE_ACCOUNT,
    nkeys.PREFIX_BYTE_USER,
)


class Identity:
    """A key pair of one kind."""

    def __init__(self, kind: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), kind)).decode()
        self._keys = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._keys.public_key.decode()

    def token(self, subject: str, claims: dict[str, Any]) -> str:
        """Return a token about `subject`, signed by this identity."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {"jti": "A", "iat": 1, "iss": self.public, "name": "test", "sub": subject}
        text = ".".join(_coded(json.dumps(part).encode()) for part in (head, body | claims))
        return f"{text}.{_coded(self._keys.sign(text.encode()))}"


class Account:
    """An operator with one account that has JetStream."""

    def __init__(self) -> None:
        self._operator, self._account = Identity(OPERATOR), Identity(ACCOUNT)
        self._system = Identity(ACCOUNT).public
        own = self._operator.public
        self.operator = self._operator.token(own, {"nats": {"type": "operator", "version": 2}})
        stores = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        self._tokens = {
            self._account.public: self._about(self._account.public, stores),
            self._system: self._about(self._system, {}),
        }

    def _about(self, account: str, more: dict[str, int]) -> str:
        names = ("subs", "conn", "leaf", "imports", "exports", "data", "payload")
        limits = {**dict.fromkeys(names, -1), "wildcards": True, **more}
        claims = {"nats": {"type": "account", "version": 2, "limits": limits}}
        return self._operator.token(account, claims)

    def config(self) -> str:
        """Return a server's settings that trust the operator."""
        preload = "\n".join(f"  {name}: {token}" for name, token in self._tokens.items())
        return (
            f"operator: {self.operator}\nsystem_account: {self._system}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
        )

    def credentials(self, path: Path) -> Path:
        """Write the `.creds` file of a new user."""
        user = Identity(USER)
        limits = dict.fromkeys(("subs", "data", "payload"), -1)
        claims = {"nats": {"type": "user", "version": 2, **limits}}
        token = self._account.token(user.public, claims)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return path


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
