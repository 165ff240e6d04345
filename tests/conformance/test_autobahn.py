"""The Autobahn test suite for WebSocket (github.com/crossbario/autobahn-testsuite) through a node.

Its fuzzing client plays every case against an echo server of the `websockets` library behind a
node. A relay that is true to the byte fails none that the server passes: what fails is played once
more without the node, and what fails there too is the server's. Skipped without the program
`wstest`, which PyPI has for Python 2.7; it goes on PATH, or `ONETRIP_WSTEST` names it.

Cases of UTF-8 (6) and of limits and speed (9) are left out unless `ONETRIP_FULL=1`. Those of
compression (12, 13) always are: to a relay they are 216 times the same, and take half an hour.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil

import websockets

from support.node_process import running_node_process
from support.results import SuiteResult, report, skip_suite

SUITE = "Autobahn WebSocket"
SOURCE = "github.com/crossbario/autobahn-testsuite"
ALIKE = ["12.*", "13.*"]
SLOW = [*ALIKE, "6.*", "9.*"]


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def run(program, *arguments, folder, timeout):
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")


async def play(program, folder, port, cases, left_out=()):
    """Play cases against a port; return each one's verdicts."""
    specification = {
        "outdir": "reports",
        "servers": [{"agent": "server", "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": left_out,
        "exclude-agent-cases": {},
    }
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(specification))
    arguments = ("-m", "fuzzingclient", "-s", "spec.json")
    output = await run(program, *arguments, folder=folder, timeout=900)
    index = folder / "reports" / "index.json"
    assert index.exists(), output[-2000:]
    return json.loads(index.read_text())["server"]


def failures(cases):
    """Return the names of the cases that failed."""
    return {n for n, case in cases.items() if "FAILED" in (case["behavior"], case["behaviorClose"])}


async def test_no_case_of_autobahn_fails(tmp_path):
    program = os.environ.get("ONETRIP_WSTEST") or shutil.which("wstest")
    if program is None:
        skip_suite(SUITE, SOURCE, "wstest is not installed")
    is_full = bool(os.environ.get("ONETRIP_FULL"))
    left_out = ALIKE if is_full else SLOW
    logger = logging.getLogger("test")
    logger.disabled = True  # most cases break the protocol, and the server would log each
    async with websockets.serve(
        echo, "127.0.0.1", 0, max_size=None, ping_interval=None, logger=logger
    ) as server:
        port = server.sockets[0].getsockname()[1]
        async with running_node_process(tmp_path, port) as node:
            cases = await play(program, tmp_path / "through", node.port, ["*"], left_out)
        failed = failures(cases)
        own = failures(await play(program, tmp_path / "direct", port, sorted(failed)))
    version = (await run(program, "--autobahnversion", folder=tmp_path, timeout=60)).split()[-1]
    ours = failed - own
    note = f"{', '.join(sorted(own))} fail without onetrip too" if own else ""
    note = "; ".join([*([note] if note else []), f"without {', '.join(left_out)}"])
    passed = len(cases) - len(failed)
    source = f"{SOURCE} {version}"
    report(SuiteResult(SUITE, source, len(cases), passed, len(ours), len(failed) - len(ours), note))
    assert ours == set()
    assert len(own) <= (10 if is_full else 2)
    assert passed >= (280 if is_full else 90)
