"""Posting a message: one attempt over HTTP, under a deadline, following nobody elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp

TIMEOUT = 10.0
"""Longest attempt, s; the specification wants receivers to answer first and work later."""

MAX_CONNECTIONS = 16
"""To all receivers together."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended.

    Attributes:
        status: of the answer, 0 without one.
        error: why there is none, "" if there is.
        retry_after: how long the receiver wants to be left alone, s, or None.
    """

    status: int
    error: str = ""
    retry_after: float | None = None


class Post(Protocol):
    """Sends one message."""

    async def __call__(self, url: str, fields: Mapping[str, str], body: bytes) -> Answer:
        """Return the answer, or why there is none; never raises for the network's sake."""

    async def close(self) -> None:
        """Close what is kept open."""


class HttpPost:
    """Sends messages over HTTP."""

    def __init__(self, user_agent: str) -> None:
        self._agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str, fields: Mapping[str, str], body: bytes) -> Answer:
        """See `Post`."""
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                headers={"User-Agent": self._agent},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with session.post(url, data=body, headers=fields, allow_redirects=False) as reply:
                # Its body is not read: nothing in it is wanted, and it could be endless.
                return Answer(reply.status, retry_after=_seconds(reply.headers.get("Retry-After")))
        except TimeoutError:
            return Answer(0, f"no answer within {TIMEOUT:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(0, _reason(error))

    async def close(self) -> None:
        """See `Post`."""
        if self._session is not None:
            await self._session.close()


def _seconds(text: str | None) -> float | None:
    # A date is left to our own waits.
    return float(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else None


def _reason(error: Exception) -> str:
    """Return what failed, without the URL: its path may be a secret."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not valid for it"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error).__name__}"
    return f"no answer: {type(error).__name__}"
