"""h2spec, the outside suite of HTTP/2 servers (github.com/summerwind/h2spec): no failure allowed.

Skipped without the program. It comes with no package manager we use; built from its sources with
any Go, it goes anywhere on PATH, or `ONETRIP_H2SPEC` names it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil

from onetrip.net.tls import CertificateSet, load_certificate
from support.certs import Authority
from support.fake_upstream import FakeUpstream
from support.proxy_rig import one_region
from support.results import SuiteResult, report, skip_suite

SUITE = "h2spec"
SOURCE = "github.com/summerwind/h2spec"
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200


async def answer(connection) -> None:
    """Read requests, with any body and trailers, and answer each."""
    while head := await connection.read_head():
        length = re.search(rb"(?i)content-length: ([0-9]+)", head)
        if b"chunked" in head:
            while not re.search(rb"\r\n0\r\n(?:[^\r\n]+\r\n)*\r\n$", connection.received):
                await connection.read(1000)
        elif length:
            await connection.read_exactly(int(length[1]))
        await connection.send(BODY)


async def test_no_case_of_h2spec_fails(tmp_path):
    program = os.environ.get("ONETRIP_H2SPEC") or shutil.which("h2spec")
    if program is None:
        skip_suite(SUITE, SOURCE, "h2spec is not installed")
    pair = Authority(tmp_path).issue("web", "127.0.0.1")
    served = CertificateSet([load_certificate(pair.cert, pair.key, protocols=("h2", "http/1.1"))])
    async with (
        FakeUpstream(answer) as upstream,
        one_region(upstream.endpoint, hosts=("127.0.0.1",), certificates=served) as rig,
    ):
        process = await asyncio.create_subprocess_exec(
            *(program, "-t", "-k", "-h", "127.0.0.1", "-p", str(rig.tls_port), "-o", "2"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    text = output.decode()
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", text)
    assert summary is not None, text[-2000:]
    total, passed, skipped, failed = map(int, summary.groups())
    report(SuiteResult(SUITE, SOURCE, total, passed, failed, skipped))
    assert (skipped, failed) == (0, 0), text[text.find("Failures:") :][:4000]
    assert total == passed >= 140
