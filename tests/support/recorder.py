"""Stands between onetrip and a real server: passes every byte on and keeps a copy."""

from __future__ import annotations

import asyncio
import contextlib

from support.fake_server import FakeServer


class Recording:
    """The bytes of one connection.

    Attributes:
        sent: what onetrip sent.
        answered: what the server answered.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.answered = b""


class Recorder(FakeServer):
    """A relay to `port` of loopback, on a port of its own; an async context manager.

    Attributes:
        recordings: one a connection, in order.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._target = port
        self.recordings: list[Recording] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, both ways."""
        recording = Recording()
        self.recordings.append(recording)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(
                self._pass(reader, back, recording, is_request=True),
                self._pass(there, writer, recording, is_request=False),
            )
        finally:
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
