"""An application: it answers after the round trips to its database that a path takes.

    python -m support.instance HOST PORT RTT

It does not really ask the database, so that what a fault does to requests is the proxy's doing.
"""

from __future__ import annotations

import asyncio
import re
import sys

TRIPS = {b"/orders": 5, b"/item": 1}
"""Sequential round trips of a path; none of any other one."""

LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


async def serve(host: str, port: int, rtt: float) -> None:
    """Serve for ever; `rtt` is that to the database, s."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = LENGTH.search(head)
                if length:
                    await reader.readexactly(int(length[1]))
                await asyncio.sleep(TRIPS.get(head.split(b" ", 2)[1], 0) * rtt)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, host, port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
