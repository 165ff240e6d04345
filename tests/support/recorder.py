"""Stands between onetrip and a real server: passes every byte on and keeps a copy."""

from __future__ import annotations

import asyncio
import contextlib

from onetrip.model.topology import Endpoint


class Recording:
    """The bytes of one connection.

    Attributes:
        sent: what onetrip sent.
        answered: what the server answered.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.answered = b""


class Recorder:
    """A relay to `port` of loopback, on a port of its own; an async context manager.

    Attributes:
        recordings: one a connection, in order.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.recordings: list[Recording] = []
        self.port = 0

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint("127.0.0.1", self.port)

    async def __aenter__(self) -> Recorder:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        recording = Recording()
        self.recordings.append(recording)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(
                self._pass(reader, back, recording, is_request=True),
                self._pass(there, writer, recording, is_request=False),
            )
        finally:
            self._tasks.discard(task)
            writer.close()
            back.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        recording: Recording,
        *,
        is_request: bool,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if is_request:
                    recording.sent += data
                else:
                    recording.answered += data
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            return
        writer.transport.abort()  # a reset is passed on as one
