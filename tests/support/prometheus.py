"""A real Prometheus for tests: it scrapes what it is told to and answers queries."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from support.ports import free_ports
from support.servers import require_program, running_server

SCRAPE_INTERVAL = "250ms"
"""Short, so that a test sees rates soon."""


class Prometheus:
    """A running server's API.

    Args:
        session: closed by whoever made it.
    """

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"
        self._session = session

    async def values(self, query: str) -> list[float]:
        """Return the finite values of a query now.

        Raises:
            AssertionError: Prometheus refused the query; its reason.
        """
        answer = await self._ask("query", query=query)
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        found = [float(row["value"][1]) for row in answer["data"]["result"]]
        return [value for value in found if math.isfinite(value)]

    async def label_values(self, label: str, selector: str) -> list[str]:
        """Return a label's values among the series of a selector."""
        answer = await self._ask(f"label/{label}/values", **{"match[]": selector})
        return list(answer["data"])

    async def rule_health(self) -> set[str]:
        """Return how the rules' last evaluations went: "ok", "err" or "unknown"."""
        groups = (await self._ask("rules"))["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    async def _ask(self, path: str, **query: str) -> dict[str, Any]:
        async with self._session.get(f"{self._base}/{path}", params=query) as reply:
            return dict(await reply.json())


@contextlib.contextmanager
def running_prometheus(
    folder: Path, targets: Sequence[str], rules: Sequence[Path] = ()
) -> Iterator[int]:
    """Run Prometheus over `targets` (host:port each); yield its port."""
    program = require_program("prometheus")
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "onetrip", "static_configs": [{"targets": [*targets]}]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    command = [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'prometheus'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with running_server(command, port):
        yield port
