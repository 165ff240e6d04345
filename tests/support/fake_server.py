"""What every fake server of the tests does alike: listen, keep count of its tasks, end them all."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self

from onetrip.model.topology import Endpoint


class FakeServer:
    """A server on a loopback port; an async context manager. Subclasses write `serve`.

    Attributes:
        port: where it listens; 0 takes a free one.
    """

    ENDS: tuple[type[BaseException], ...] = ()
    """Errors that end a connection without being anybody's fault."""

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._closed = False
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self._closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint("127.0.0.1", self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        raise NotImplementedError

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # accepted before `close`, begun after it: nobody would end it
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(*self.ENDS):
                await self.serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()
