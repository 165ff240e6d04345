"""A proxy in a process of its own, so that its memory can be measured from outside.

    python -m support.proxy_process [h2:]UPSTREAM_PORT [DIRECTORY]

prints the port it listens on and serves, the files of the directory too, until its standard input
ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from onetrip.model.edge import Assets
from onetrip.model.topology import Endpoint, HttpProtocol
from support.proxy_rig import one_region


def peak_memory(pid: int) -> int:
    """Return the largest resident size a process has had, bytes (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM in /proc/PID/status")


async def main(upstream: str, directory: str | None) -> None:
    """Serve until standard input ends."""
    assets = Assets(directory) if directory else None
    protocol = HttpProtocol.H2 if upstream.startswith("h2:") else HttpProtocol.HTTP1
    endpoint = Endpoint("127.0.0.1", int(upstream.removeprefix("h2:")), None, protocol)
    async with one_region(endpoint, assets=assets) as rig:
        print(rig.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
