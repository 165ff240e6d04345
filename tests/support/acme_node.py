"""A whole node that orders its certificates from a test authority over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.model.status import CertificateStatus
from onetrip.observe.logs import Log
from onetrip.timing import MonotonicClock
from support.fake_upstream import FakeUpstream


class SkewedClock(MonotonicClock):
    """The machine's clock, with a wall clock that can be put forward."""

    ahead = 0.0

    def wall(self) -> float:
        """Return Unix time, s, and what it is ahead."""
        return super().wall() + self.ahead


@dataclass(slots=True)
class AcmeRig:
    """A running node, what it logged, and the instance behind it."""

    node: Node
    log: io.StringIO
    clock: SkewedClock

    def status(self, domain: str = "shop.test") -> CertificateStatus:
        """Return how the domain's certificate is."""
        return next(s for s in self.node.view.certificates() if domain in s.names)

    def events(self) -> list[str]:
        """Return the names of events, newest first."""
        return [event.name for event in self.node.view.events(100)]

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample of the node's metrics; 0 while there is none."""
        return self.node.metrics.registry.get_sample_value(name, labels) or 0.0

    async def check(self) -> None:
        """Start the orders that are due now, without waiting for the next look."""
        source = self.node._certificates._source
        assert source is not None
        await source.check()

    async def subject(self, root: str, domain: str = "shop.test") -> dict[str, Any]:
        """Shake hands as a client that trusts `root` alone, and return the certificate."""
        context = ssl.create_default_context(cadata=root)
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.node.tls_port, ssl=context, server_hostname=domain
        )
        found: dict[str, Any] = writer.get_extra_info("ssl_object").getpeercert()
        writer.close()
        return found


@contextlib.asynccontextmanager
async def acme_node(
    folder: Path,
    acme: dict[str, Any],
    *,
    http_port: int,
    tls_port: int,
    hosts: tuple[str, ...] = ("shop.test",),
    **tls: Any,
) -> AsyncIterator[AcmeRig]:
    """Run a node with `tls.acme` and an instance; `tls` are more keys of its `tls` part."""
    async with FakeUpstream() as upstream:
        environment = {"hosts": list(hosts), "instances": {"den": [str(upstream.endpoint)]}}
        config = {
            "listen": f"127.0.0.1:{http_port}",
            "data_dir": str(folder / "data"),
            "admin": {"listen": "127.0.0.1:0"},
            "log": {"access": "off"},
            "regions": {"den": {}},
            "projects": {"shop": {"environments": {"production": environment}}},
            "tls": {
                "listen": f"127.0.0.1:{tls_port}",
                "redirect_http": True,
                "acme": {"agree_to_terms": True} | acme,
            }
            | tls,
        }
        path = folder / "onetrip.yaml"
        path.write_text(yaml.safe_dump(config))
        lines = io.StringIO()
        log = Log(lines, "debug", lambda: 0.0)
        clock = SkewedClock()
        node = Node(load_settings(path), log=log, clock=clock, rng=Random(1))
        try:
            await node.start()
            yield AcmeRig(node, lines, clock)
        finally:
            await node.stop(0.2)
