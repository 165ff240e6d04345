"""A small DNS server on loopback, whose records can be changed while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

MAX_DATAGRAM = 512
"""Bytes of an answer over UDP; what is longer is truncated, and asked for again over TCP."""


class DnsServer(asyncio.DatagramProtocol):
    """Answers with the records it has; a name without any does not exist.

    Attributes:
        records: texts by (name with a final dot, type).
        ttl: of every answer, s.
        is_silent: it answers nothing.
        asked: questions so far.
        over_tcp: those that came over TCP.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.ttl = 0
        self.is_silent = False
        self.asked = self.over_tcp = 0
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def put(self, name: str, kind: str, *texts: str) -> None:
        """Replace the records of a name and type."""
        self.records[f"{name}.", kind] = list(texts)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        # uvloop's transport is one by its shape alone.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        assert self._transport is not None
        reply = self.answer(data)
        if reply is None:
            return
        wire = reply.to_wire()
        if len(wire) > MAX_DATAGRAM:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        self._transport.sendto(wire, addr)

    async def serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer questions over TCP."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                reply = self.answer(await reader.readexactly(size))
                self.over_tcp += 1
                if reply is not None:
                    wire = reply.to_wire()
                    writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    def answer(self, data: bytes) -> dns.message.Message | None:
        """Return the reply to a question, or None while silent."""
        self.asked += 1
        if self.is_silent:
            return None
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        question = query.question[0]
        name, kind = question.name.to_text(), question.rdtype.name
        texts = self.records.get((name, kind), [])
        if texts:
            reply.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *texts))
        elif not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply


@contextlib.asynccontextmanager
async def running_dns() -> AsyncIterator[DnsServer]:
    """Run a server for the length of a test."""
    server = DnsServer()
    streams = await asyncio.start_server(server.serve_stream, "127.0.0.1", 0)
    server.port = streams.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", server.port)
    )
    try:
        yield server
    finally:
        transport.close()
        streams.close()
        await streams.wait_closed()
