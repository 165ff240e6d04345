"""From a new connection to a session: encryption, who the client is, and what it is told.

The relay ends the client's TLS and SCRAM exchange and has its own towards the servers, because a
session that moves between servers cannot log in at each with a proof that is good for one.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from onetrip.errors import DownstreamError, Kind, OnetripError, ProtocolError
from onetrip.relay.client_link import ClientLink
from onetrip.relay.route_settings import Account, RouteSettings
from onetrip.relay.session_state import startup_settings
from onetrip.wire.postgres_messages import cstring, error_response, message, take_cstring
from onetrip.wire.postgres_start import Cancel, Encryption, Start, negotiation
from onetrip.wire.scram import MECHANISM, NONCE_SIZE, SALT_SIZE, ScramServer, Verifier

LOGIN_TIMEOUT = 60.0
"""Longest time for a client to log in, s (authentication_timeout of the server)."""

_SASL, _SASL_CONTINUE, _SASL_FINAL = 10, 11, 12

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that has proved who it is.

    Attributes:
        startup: the settings that it named.
    """

    account: Account
    database: str
    startup: dict[str, str]


class RefusedError(DownstreamError):
    """A client that is not served.

    Attributes:
        code: SQLSTATE for it.
    """

    kind = Kind.DENIED

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Admission:
    """Lets clients in.

    Args:
        rng: a source of randomness that cannot be guessed.
    """

    def __init__(self, settings: RouteSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        # Nobody's: for users that do not exist, alike in all that can be seen.
        self._nobody = Verifier.of(rng.randbytes(16).hex(), rng.randbytes(SALT_SIZE))
        self._salts: dict[str, bytes] = {}

    async def opening(self, client: ClientLink) -> Start | Cancel:
        """Return the packet that a client opens with, once encryption is settled.

        Raises:
            RefusedError: it does not want what we can.
            ProtocolError: it is no PostgreSQL client.
        """
        for _ in range(3):
            found = await _next(client, client.take_opening)
            if isinstance(found, Start | Cancel):
                return self._checked(client, found)
            if client.early:
                # Nothing may come in clear in front of TLS (CVE-2021-23214).
                raise ProtocolError("bytes in clear behind a request for encryption")
            if found is Encryption.TLS and self._settings.client_tls is not None:
                await self._start_tls(client, self._settings.client_tls)
            else:
                client.write(b"N")
        raise ProtocolError("a client asks for encryption again and again")

    def _checked(self, client: ClientLink, found: Start | Cancel) -> Start | Cancel:
        is_clear = client.transport is None or not client.transport.get_extra_info("ssl_object")
        is_wanted = self._settings.client_tls is not None and isinstance(found, Start)
        if is_wanted and is_clear:
            raise RefusedError("28000", "this relay wants TLS (sslmode=require)")
        return found

    async def _start_tls(self, client: ClientLink, context: ssl.SSLContext) -> None:
        assert client.transport is not None
        client.write(b"S")
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(client.transport, client, context, server_side=True)
        except (OSError, ssl.SSLError) as error:
            raise ProtocolError(f"TLS with a client failed: {type(error).__name__}") from error
        if transport is None:
            raise DownstreamError("the client is gone", kind=Kind.RESET)
        client.connection_made(transport)

    async def authenticate(self, client: ClientLink, start: Start) -> Admitted:
        """Let a client prove who it is.

        Raises:
            RefusedError: it cannot, or wants what cannot be routed.
            ProtocolError: its messages are no login.
        """
        if start.minor or any(name.startswith("_pq_.") for name in start.parameters):
            unknown = [name for name in start.parameters if name.startswith("_pq_.")]
            client.write(negotiation(unknown))
        client.begin_messages()
        account = self._settings.accounts.get(start.user)
        verifier = account.verifier if account is not None else self._decoy(start.user)
        server = ScramServer(
            verifier, self._rng.randbytes(NONCE_SIZE), is_known=account is not None
        )
        await self._exchange(client, server, start.user)
        assert account is not None
        client.trust()
        if start.parameters.get("replication", "false").lower() not in ("false", "off", "no", "0"):
            raise RefusedError("0A000", "replication is not routed; connect to the server itself")
        try:
            startup = startup_settings(start.parameters)
        except ValueError as error:
            raise RefusedError("22023", str(error)) from error
        return Admitted(account, start.database, startup)

    def _decoy(self, user: str) -> Verifier:
        # The same user is always shown the same salt, as one that exists would be.
        if len(self._salts) > 1000:
            self._salts.clear()
        salt = self._salts.setdefault(user, self._rng.randbytes(SALT_SIZE))
        one = self._nobody
        return Verifier(one.iterations, salt, one.stored_key, one.server_key)

    async def _exchange(self, client: ClientLink, server: ScramServer, user: str) -> None:
        client.write(_authentication(_SASL, cstring(MECHANISM) + b"\0"))
        name, at = take_cstring(body := await _answer(client), 0)
        if name != MECHANISM.encode():
            raise RefusedError("28000", f"this relay offers {MECHANISM} only")
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        first = body[at + 4 :]
        if size != len(first):
            raise ProtocolError(f"a first message of {size} bytes has {len(first)}")
        client.write(_authentication(_SASL_CONTINUE, server.first(first)))
        try:
            final = server.final(await _answer(client))
        except DownstreamError as error:
            text = f'password authentication failed for user "{user[:63]}"'
            raise RefusedError("28P01", text) from error
        client.write(_authentication(_SASL_FINAL, final))


def refusal(error: OnetripError) -> bytes:
    """Return what a client is told that is not let in."""
    code = error.code if isinstance(error, RefusedError) else "08P01"
    return error_response(code, str(error), severity="FATAL")


def _authentication(code: int, body: bytes) -> bytes:
    return message(b"R", struct.pack("!I", code) + body)


async def _answer(client: ClientLink) -> bytes:
    found = await _next(client, lambda: client.take() if client.queue else None)
    if found.kind != ord("p"):
        raise ProtocolError(f"message {chr(found.kind)!r} is not part of a login")
    return found.body


async def _next(client: ClientLink, take: Callable[[], _T | None]) -> _T:
    changed = asyncio.Event()
    client.on_change = changed.set
    while (found := take()) is None:
        if client.failure is not None:
            raise client.failure
        changed.clear()
        await changed.wait()
    return found
