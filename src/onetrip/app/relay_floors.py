"""The relays through which the applications of a region read (`onetrip relay postgres --route`).

A relay chooses the replica itself. It is told a floor: what is read through it from then on lacks
nothing of that. And it tells how far the commits are that went through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

from onetrip.errors import ProtocolError
from onetrip.model.replication import NOTHING, Position, lsn, parse_position

TIMEOUT = 1.0
"""Longest wait for a relay, s: it is in the same region, and has the answer at hand."""

MAX_REPLY = 4096
"""Bytes of a reply that are read."""


_NONE = (NOTHING, lsn(0))


class _Told(msgspec.Struct):
    """`GET /position` of a relay."""

    position: str


class RelayClient:
    """A node's connections to relays."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> bytes | None:
        """Return the body of a reply of 200; None for any other, and for none."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.request(method, url, headers=headers, data=body) as reply:
                content = await reply.content.read(MAX_REPLY)
                return content if reply.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()


class RelayFloors:
    """The relays of one backend in one region; see `proxy.consistency.Relays`.

    Args:
        urls: of their HTTP, without a path.
        token: what they want to be shown, "" for nothing.
    """

    def __init__(self, client: RelayClient, backend: str, urls: Sequence[str], token: str) -> None:
        self._client = client
        self._backend = backend
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def hold(self, position: Position) -> bool:
        """Have every relay read nothing that lacks `position`; tell whether all of them do."""
        body = msgspec.json.encode({"backend": self._backend, "position": str(position)})
        found = await asyncio.gather(*(self._ask("POST", f"{u}/floor", body) for u in self._urls))
        return all(reply is not None for reply in found)

    async def written(self) -> Position | None:
        """Return a position that covers the commits through all relays.

        None if any is silent, or has seen no commit: it may have been started again after one.
        """
        replies = await asyncio.gather(*(self._ask("GET", f"{u}/position") for u in self._urls))
        position = NOTHING
        try:
            for reply in replies:
                if reply is None:
                    return None
                told = parse_position(msgspec.json.decode(reply, type=_Told).position)
                if told in _NONE:
                    return None
                position = position.join(told)
        except (msgspec.DecodeError, ProtocolError):
            return None
        return position if self._urls else None

    async def _ask(self, method: str, url: str, body: bytes | None = None) -> bytes | None:
        return await self._client.ask(method, url, self._headers, body)
