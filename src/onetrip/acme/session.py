"""One account at one authority: its exchanges, each bounded, and what their failures mean.

The protocol itself (RFC 8555) is spoken by certbot's library `acme`, imported in this module and
`protocol` and nowhere else. It blocks, so each exchange runs in a thread of its own, which a
stopping node does not wait for. It does not tell `Retry-After` of a refusal and reads replies of
any size: a hook on its session sees to both.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import io
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from acme import client, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from onetrip.acme import keys
from onetrip.acme.settings import AcmeSettings
from onetrip.acme.storage import Storage
from onetrip.errors import AcmeError
from onetrip.timing import Clock

CALL_TIMEOUT = 20
"""Longest wait for bytes of a reply, s."""

MAX_NONCES = 5
"""Times an exchange is repeated whose nonce was refused (RFC 8555 section 6.5), besides the one
time of the library: nothing has been done then. Many servers share nonces badly."""

MAX_REPLY_SIZE = 256 * 1024
"""Bytes of a reply; the largest is a certificate chain."""

MAX_RETRY_AFTER = 7 * 86400.0
"""Longest `Retry-After` believed, s: the widest window of the known rate limits is a week."""

MAX_DETAIL_SIZE = 300
"""Characters of an authority's explanation that are kept."""

_REASONS = {
    "rateLimited": "rate_limited",
    "serverInternal": "unavailable",
    **dict.fromkeys(
        ("unauthorized", "connection", "dns", "tls", "caa", "incorrectResponse"), "challenge"
    ),
}
MALFORMED = (errors.Error, JoseError, ValueError, KeyError, TypeError, AttributeError)
"""What a reply that is not as it should be raises in the library."""

_FAILURES = (requests.RequestException, messages.Error, *MALFORMED)

T = TypeVar("T")


class AccountSession:
    """Speaks for one account; call `connect` first.

    Attributes:
        client: the library's client, None until connected.
        thumbprint: of the account's key, part of every answer to a challenge.
    """

    def __init__(self, settings: AcmeSettings, storage: Storage, clock: Clock, agent: str) -> None:
        self._settings = settings
        self._storage = storage
        self._clock = clock
        self._agent = agent
        self._lock = asyncio.Lock()  # the library's session is not for two threads
        self._retry_after: float | None = None
        self._client: client.ClientV2 | None = None
        self.thumbprint = ""

    async def connect(self) -> client.ClientV2:
        """Return the client, once the account is known to exist.

        Raises:
            AcmeError: the authority or the account cannot be used.
        """
        if self._client is None:
            self._client = await self.call(self._register, is_global=True)
        return self._client

    def forget(self) -> None:
        """Learn the directory anew before the next order."""
        self._client = None

    async def post(self, found: client.ClientV2, url: str, body: Any) -> requests.Response:
        """Send a signed request; None as `body` reads (RFC 8555 section 6.3).

        Raises:
            AcmeError: it was refused or not understood.
        """
        nonces = found.directory["newNonce"]
        return await self.call(lambda: found.net.post(url, body, new_nonce_url=nonces))

    async def call(self, work: Callable[[], T], *, is_global: bool = False) -> T:
        """Run one exchange of the library.

        Args:
            is_global: its failure would fail other domains as well.

        Raises:
            AcmeError: it failed.
        """
        async with self._lock:
            for left in reversed(range(MAX_NONCES)):
                self._retry_after = None
                try:
                    return await in_thread(work)
                except _FAILURES as error:
                    is_stale = isinstance(error, messages.Error) and error.code == "badNonce"
                    if not (is_stale and left):
                        raise explain(error, is_global, self._retry_after) from error
        raise AssertionError("unreachable: the last failure is raised")

    def seconds(self, response: requests.Response) -> float | None:
        """Return a reply's Retry-After in s (RFC 9110 section 10.2.3), or None."""
        value = response.headers.get("Retry-After")
        if value is None:
            return None
        if value.isascii() and value.isdigit() and len(value) < 10:
            return min(float(value), MAX_RETRY_AFTER)
        try:
            at = email.utils.parsedate_to_datetime(value).timestamp()
        except (ValueError, OverflowError):
            return None
        return min(max(at - self._clock.wall(), 0.0), MAX_RETRY_AFTER)

    def _register(self) -> client.ClientV2:
        """Read the directory, and find or make the account of our key."""
        key = JWKEC(key=self._account_key())
        self.thumbprint = b64encode(key.thumbprint()).decode()
        net = self._network(key)
        directory = client.ClientV2.get_directory(self._settings.directory, net)
        found = client.ClientV2(_checked(directory), net)
        bound = self._settings.external_account
        wanted = messages.NewRegistration.from_data(
            email=self._settings.email,
            terms_of_service_agreed=True,
            external_account_binding=None
            if bound is None
            else messages.ExternalAccountBinding.from_data(
                key.public_key(), bound.key_id, bound.hmac_key, directory
            ),
        )
        try:
            net.account = found.new_account(wanted)
        except errors.ConflictError as error:  # the key has an account already
            net.account = messages.RegistrationResource(body=wanted, uri=error.location)
        return found

    def _account_key(self) -> ec.EllipticCurvePrivateKey:
        pem = self._storage.load_account()
        if pem is None:
            pem = keys.encode_key(keys.new_key())
            self._storage.save_account(pem)
        return keys.decode_account_key(pem)

    def _network(self, key: JWKEC) -> client.ClientNetwork:
        net = client.ClientNetwork(key, alg=ES256, user_agent=self._agent, timeout=CALL_TIMEOUT)
        if self._settings.ca_file is not None:
            net.verify_ssl = str(self._settings.ca_file)  # type: ignore[assignment]
        net.session.trust_env = False  # neither proxies nor ~/.netrc of whoever started the node
        net.session.adapters.pop("http://")
        net.session.hooks["response"].append(self._look_at)
        return net

    def _look_at(self, response: requests.Response, **_: Any) -> None:
        """Note `Retry-After`, and read the body here, bounded, before the library does."""
        self._retry_after = self.seconds(response)
        body = bytearray()
        while chunk := response.raw.read(64 * 1024, decode_content=True):
            body += chunk
            if len(body) > MAX_REPLY_SIZE:
                response.close()
                raise ValueError(f"reply exceeds limit of {MAX_REPLY_SIZE} bytes")
        response.raw = io.BytesIO(body)


def explain(error: Exception, is_global: bool, retry_after: float | None) -> AcmeError:
    """Return what a failure of the library means."""
    if isinstance(error, messages.Error):
        code = error.code or "unknown"
        reason = _REASONS.get(code, "refused")
        text = f"the authority refused ({code}): {plain(error.detail or '')}"
    elif isinstance(error, requests.exceptions.SSLError):
        reason, text = "unreachable", "the authority's own certificate is refused; see ca_file"
    elif isinstance(error, requests.RequestException):
        reason, text = "unreachable", f"no answer from the authority: {type(error).__name__}"
    elif status := _status_of(error):
        reason, text = "unavailable", f"the authority answered {status}"
    else:
        reason = "malformed"
        text = f"the authority's answer makes no sense: {type(error).__name__}"
    is_global = is_global or reason in ("unreachable", "unavailable")
    return AcmeError(text, reason=reason, retry_after=retry_after, is_global=is_global)


def plain(text: str) -> str:
    """Return a stranger's text for one line of a log, bounded."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line)[:MAX_DETAIL_SIZE]


def _checked(directory: messages.Directory) -> messages.Directory:
    for name in ("newNonce", "newAccount", "newOrder"):
        url = directory[name]
        if not isinstance(url, str) or not url.startswith("https://"):
            raise ValueError(f"{name} is no https URL")
    return directory


def _status_of(error: Exception) -> int:
    """Return the HTTP status of a failure reply that was no problem document, else 0."""
    reply = error.args[0] if isinstance(error, errors.ClientError) and error.args else None
    return reply.status_code if isinstance(reply, requests.Response) and not reply.ok else 0


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a daemon thread, which nobody waits for once the caller has been cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await done
