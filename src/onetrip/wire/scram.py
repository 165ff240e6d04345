"""SCRAM-SHA-256, both sides, without I/O and without channel binding.

The client proves that it knows the password, the server that it knows what was made of it; neither
can be replayed. Sources: RFC 5802, RFC 7677, RFC 4013 (SASLprep); PostgreSQL documentation, "SASL
Authentication", for the user name that is left empty and the text form of a verifier.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from dataclasses import dataclass, field

from onetrip.errors import ConfigError, DownstreamError, Kind, ProtocolError, UpstreamError

MECHANISM = "SCRAM-SHA-256"

ITERATIONS = 4096
"""Rounds of a verifier made here; PostgreSQL's default, and the least of RFC 7677 section 4."""

MAX_ITERATIONS = 1_000_000
"""Most rounds that a server may ask for: about half a second of work."""

MAX_MESSAGE = 4096
"""Largest message of an exchange, bytes; real ones have about 100."""

SALT_SIZE = 16
NONCE_SIZE = 18


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps of a password."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
        """Make one of a password."""
        salted = _salted(password, salt, iterations)
        client_key = _mac(salted, b"Client Key")
        stored = hashlib.sha256(client_key).digest()
        return cls(iterations, salt, stored, _mac(salted, b"Server Key"))

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read one as PostgreSQL keeps it in `pg_authid.rolpassword`.

        Raises:
            ConfigError: it is none; the message does not repeat it.
        """
        try:
            name, numbers, keys = text.strip().split("$")
            count, salt = numbers.split(":")
            stored, server = keys.split(":")
            found = cls(int(count), _decode(salt), _decode(stored), _decode(server))
        except (ValueError, binascii.Error) as error:
            raise ConfigError(f"not a {MECHANISM} verifier") from error
        sizes = len(found.stored_key), len(found.server_key)
        if name != MECHANISM or sizes != (32, 32) or not 1 <= found.iterations <= MAX_ITERATIONS:
            raise ConfigError(f"not a {MECHANISM} verifier")
        return found


class ScramServer:
    """One exchange, the server's side.

    Args:
        verifier: what is known of the client's password.
        nonce: fresh random bytes.
        is_known: False for a user that does not exist: the exchange goes on and fails at its end,
            so that nobody learns which users exist.
    """

    def __init__(self, verifier: Verifier, nonce: bytes, *, is_known: bool = True) -> None:
        self._verifier = verifier
        self._own = base64.b64encode(nonce).decode()
        self._is_known = is_known
        self._header = self._bare = self._first = self._nonce = ""

    def first(self, data: bytes) -> bytes:
        """Take the client's first message; return the server's.

        Raises:
            ProtocolError: it is none, or wants channel binding.
        """
        text = _text(data)
        flag, _, rest = text.partition(",")
        name, _, bare = rest.partition(",")
        if flag not in ("n", "y") or name or not bare.startswith("n="):
            raise ProtocolError(f"the first message of {MECHANISM} is not without channel binding")
        self._header = f"{flag},{name},"
        self._bare = bare
        nonce = _fields(bare).get("r", "")
        if not nonce or not nonce.isascii() or not nonce.isprintable():
            raise ProtocolError(f"the first message of {MECHANISM} has no nonce")
        self._nonce = nonce + self._own
        salt = base64.b64encode(self._verifier.salt).decode()
        self._first = f"r={self._nonce},s={salt},i={self._verifier.iterations}"
        return self._first.encode()

    def final(self, data: bytes) -> bytes:
        """Take the client's proof; return the server's.

        Raises:
            ProtocolError: the message is none.
            DownstreamError: kind DENIED, the password is wrong.
        """
        text = _text(data)
        without, _, proof = text.rpartition(",p=")
        fields = _fields(without)
        if fields.get("c") != base64.b64encode(self._header.encode()).decode():
            raise ProtocolError(f"{MECHANISM}: channel binding does not match")
        if fields.get("r") != self._nonce:
            raise ProtocolError(f"{MECHANISM}: the nonce does not match")
        said = f"{self._bare},{self._first},{without}".encode()
        signature = _mac(self._verifier.stored_key, said)
        try:
            key = _xor(_decode(proof), signature)
        except (ValueError, binascii.Error) as error:
            raise ProtocolError(f"{MECHANISM}: the proof is not base64 of 32 bytes") from error
        matches = hmac.compare_digest(hashlib.sha256(key).digest(), self._verifier.stored_key)
        if not (matches and self._is_known):
            raise DownstreamError("password authentication failed", kind=Kind.DENIED)
        return b"v=" + base64.b64encode(_mac(self._verifier.server_key, said))


class ScramClient:
    """One exchange, the client's side.

    Args:
        nonce: fresh random bytes.
    """

    def __init__(self, password: str, nonce: bytes) -> None:
        self._password = password
        self._own = base64.b64encode(nonce).decode()
        self._expected = b""

    def first(self) -> bytes:
        """Return the first message. PostgreSQL takes the user's name from the start."""
        return f"n,,n=,r={self._own}".encode()

    def final(self, data: bytes) -> bytes:
        """Take the server's first message; return the proof.

        Raises:
            ProtocolError: it is none, or asks for too many rounds.
        """
        text = _text(data)
        fields = _fields(text)
        nonce, count = fields.get("r", ""), fields.get("i", "")
        if not nonce.startswith(self._own) or len(nonce) == len(self._own):
            raise ProtocolError(f"{MECHANISM}: the server's nonce does not continue ours")
        if not (count.isascii() and count.isdigit() and 1 <= int(count[:8]) <= MAX_ITERATIONS):
            raise ProtocolError(f"{MECHANISM}: {count[:12]!r} rounds are not 1..{MAX_ITERATIONS}")
        try:
            salted = _salted(self._password, _decode(fields.get("s", "")), int(count[:8]))
        except (ValueError, binascii.Error) as error:
            raise ProtocolError(f"{MECHANISM}: the salt is not base64") from error
        without = f"c={base64.b64encode(b'n,,').decode()},r={nonce}"
        said = f"n=,r={self._own},{text},{without}".encode()
        client_key = _mac(salted, b"Client Key")
        proof = _xor(client_key, _mac(hashlib.sha256(client_key).digest(), said))
        self._expected = _mac(_mac(salted, b"Server Key"), said)
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, data: bytes) -> None:
        """Take the server's proof.

        Raises:
            UpstreamError: kind DENIED, the server does not know the password.
        """
        try:
            proof = _decode(_fields(_text(data)).get("v", ""))
        except (ValueError, binascii.Error):
            proof = b""
        if not self._expected or not hmac.compare_digest(proof, self._expected):
            raise UpstreamError(f"{MECHANISM}: the server's proof is wrong", kind=Kind.DENIED)


def prepared(password: str) -> str:
    """Return a password after SASLprep, or as it is where that refuses it (as PostgreSQL does)."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if not stringprep.in_table_b1(char)
    )
    text = unicodedata.normalize("NFKC", mapped)
    prohibited = any(
        test(char)
        for char in text
        for test in (
            stringprep.in_table_c12,
            stringprep.in_table_c21_c22,
            stringprep.in_table_c3,
            stringprep.in_table_c4,
            stringprep.in_table_c5,
            stringprep.in_table_c6,
            stringprep.in_table_c7,
            stringprep.in_table_c8,
            stringprep.in_table_c9,
            stringprep.in_table_a1,
        )
    )
    return password if prohibited or not text or not _is_one_way(text) else text


def _is_one_way(text: str) -> bool:
    # RFC 3454 section 6: text with right-to-left characters holds no left-to-right ones, and
    # begins and ends with them.
    if not any(map(stringprep.in_table_d1, text)):
        return True
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(map(stringprep.in_table_d2, text))


def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(data: bytes) -> str:
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"{MECHANISM}: {len(data)} bytes exceed limit of {MAX_MESSAGE}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{MECHANISM}: the message is not UTF-8") from error


def _fields(text: str) -> dict[str, str]:
    return {part[:1]: part[2:] for part in text.split(",") if part[1:2] == "="}
