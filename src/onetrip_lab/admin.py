"""What the demo asks of the nodes: the admin API to look, the command line to act.

Looking goes through the product's own client. Acting runs the real `onetrip` command, so that what
the demo shows is what a person would type.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from onetrip.cli.client import Client, UnreachableError
from onetrip.control.schemas import DecisionBody, ExplainBody, RttRow, RttsBody, StatusBody
from onetrip.errors import ApiError
from onetrip_lab.children import LabError

ASK_TIMEOUT = 5.0
COMMAND_TIMEOUT = 20.0
"""Bounds on one question and on one command, s."""


class Admin:
    """One node, as an operator sees it. `url` is its admin API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = Client(url, timeout=ASK_TIMEOUT)

    async def status(self) -> StatusBody | None:
        """Return the node's status, or None while it does not answer."""
        try:
            return await asyncio.to_thread(self._client.get, ("status",), StatusBody, {})
        except (UnreachableError, ApiError):
            return None

    async def rtts(self) -> list[RttRow]:
        """Return every RTT the node knows; empty while it does not answer."""
        try:
            body = await asyncio.to_thread(self._client.get, ("rtts",), RttsBody, {})
        except (UnreachableError, ApiError):
            return []
        return body.rtts

    async def decisions(self, project: str, edge: str) -> list[DecisionBody]:
        """Return the explain records of one edge; empty while the node does not answer."""
        path = ("projects", project, "explain")
        try:
            body = await asyncio.to_thread(self._client.get, path, ExplainBody, {"edge": edge})
        except (UnreachableError, ApiError):
            return []
        return body.decisions

    async def command(self, *words: str) -> str:
        """Run `onetrip WORDS --api URL` and return what it printed.

        Raises:
            LabError: it failed; quotes its error line.
        """
        return await run_command([*words, "--api", self.url])


async def run_command(words: Sequence[str]) -> str:
    """Run the `onetrip` command of this installation.

    Raises:
        LabError: it failed or took longer than `COMMAND_TIMEOUT`.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("ONETRIP_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "onetrip.cli.main", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env | {"COLUMNS": "100"},
    )
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            out, err = await process.communicate()
    except TimeoutError:
        raise LabError(f"onetrip {words[0]} exceeds {COMMAND_TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        reason = err.decode("utf-8", "replace").strip()
        raise LabError(f"onetrip {' '.join(words)} failed: {reason}")
    return out.decode("utf-8", "replace").rstrip()
