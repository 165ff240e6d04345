"""h1spec, the outside suite of HTTP/1.1 servers (github.com/uNetworking/h1spec): no failure.

It is a Deno script without a licence, so nothing of it is kept here: `ONETRIP_H1SPEC` names a
folder with its `http_test.ts`, and Deno (a package on PyPI and npm) goes on PATH, or
`ONETRIP_DENO` names it. Skipped without either.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

from support.fake_upstream import FakeUpstream
from support.node_process import running_node_process
from support.results import SuiteResult, report, skip_suite

SUITE = "h1spec"
SOURCE = "github.com/uNetworking/h1spec"


async def echo(connection):
    """Answer every request with its body, as the suite asks of the server under test."""
    while request := await connection.read_request():
        head, _, body = request.partition(b"\r\n\r\n")
        if b"\r\nTransfer-Encoding: chunked" in head:
            # The suite compares what follows the head, so the chunks go back as one length.
            body = re.sub(rb"[0-9a-f]+\r\n(.*?)\r\n", rb"\1", body.removesuffix(b"0\r\n\r\n"))
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def test_no_case_of_h1spec_fails(tmp_path):
    folder = os.environ.get("ONETRIP_H1SPEC")
    deno = os.environ.get("ONETRIP_DENO") or shutil.which("deno")
    if folder is None:
        skip_suite(SUITE, SOURCE, "ONETRIP_H1SPEC names no folder with the suite")
    if deno is None:
        skip_suite(SUITE, SOURCE, "deno is not installed")
    script = Path(folder, "http_test.ts")
    hosts = ("example.com", "localhost", "127.0.0.1")
    async with (
        FakeUpstream(echo) as upstream,
        running_node_process(tmp_path, upstream.port, hosts=hosts) as node,
    ):
        process = await asyncio.create_subprocess_exec(
            *(deno, "run", "--no-check", "--allow-net", str(script), "127.0.0.1", str(node.port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        )
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    text = output.decode(errors="replace")
    summary = re.search(r"(\d+) out of (\d+) tests passed", text)
    assert summary is not None, text[-2000:]
    passed, cases = map(int, summary.groups())
    report(SuiteResult(SUITE, SOURCE, cases, passed, cases - passed))
    failures = [line for line in text.splitlines() if "\N{CROSS MARK}" in line]
    assert (passed, failures) == (cases, [])
    assert cases >= 33
