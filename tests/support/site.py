"""What a region has besides its node and instances: the way there from others, and a backend.

    python -m support.site PLAN

Runs in the network namespace of a region. Everybody outside reaches it through delaying relays, so
each hop takes the time of its distance; `PLAN` is the JSON of a `SitePlan`. Lines of JSON on
standard input change the distances: `{"way": "peer", "from": "den", "rtt": 12.0}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from onetrip.model.topology import Endpoint, parse_endpoint
from onetrip_lab.delay import Links
from onetrip_lab.relay import Relay, precise_loop
from onetrip_lab.topology import RttMatrix

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def serve(plan: dict[str, Any]) -> None:
    """Serve a region until standard input ends.

    Args:
        plan: `region`; `regions` and `rtts` of all pairs, s; `ways`: name to pairs of far and near
            addresses; `sources`: address to region; `backend`: address, or None.
    """
    rtts = {frozenset(pair): rtt for *pair, rtt in plan["rtts"]}
    region_of: Callable[[str], str | None] = plan["sources"].get
    relays: dict[str, Relay] = {}
    for way, addresses in plan["ways"].items():
        relays[way] = Relay(Links(RttMatrix(tuple(plan["regions"]), rtts)), region_of)
        for far, near in addresses:
            await relays[way].listen(parse_endpoint(far), parse_endpoint(near), plan["region"])
    if plan["backend"]:
        at: Endpoint = parse_endpoint(plan["backend"])
        await asyncio.start_server(_answer, at.host, at.port)
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        relays[order["way"]].set_rtt(order["from"], plan["region"], order["rtt"])


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(serve(json.loads(sys.argv[1])))
