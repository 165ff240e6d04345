"""A real node keeps to the API's own document, whatever it is sent (schemathesis)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from support.node_process import running_node_process

TOKEN = "a token of sixteen bytes or more"

BOUND = 120.0
"""Longest run, s; it takes 10 on an idle machine."""


async def schemathesis(url: str, folder: Path) -> tuple[int, str]:
    """Send what each operation permits and what it does not; return exit code and report."""
    command = (
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}"),
        # An upgrade would end the process under test; it has tests of its own.
        *("--exclude-operation-id", "upgrade"),
        # It knows no gzipped tars; test_node_deployments sends some, good and bad.
        *("--exclude-operation-id", "upload_assets"),
        # A stream has no end to wait for.
        *("--exclude-operation-id", "stream"),
        *("--phases", "coverage,fuzzing", "--max-examples", "5", "--seed", "1"),
        # Which regions a hint may name is the configuration's to say, not the document's.
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        "--no-color",
    )
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), BOUND)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_every_reply_is_what_the_document_says(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    admin = {"token_file": str(tmp_path / "token"), "rate": 1e6, "burst": 1_000_000}
    config = {"data_dir": str(tmp_path / "data"), "admin": admin}
    async with running_node_process(tmp_path, 9, config=config) as node:
        code, report = await schemathesis(f"http://127.0.0.1:{node.admin}", tmp_path)
        assert code == 0, report
        assert " 0 generated" not in report
        assert [each for each in node.events if each["event"] == "control.failed"] == []
