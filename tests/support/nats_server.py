"""A real NATS server for tests, run with the example of `deploy/nats` on a port of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from onetrip.cluster.jetstream import Access, JetStreamBus
from support.certs import Authority
from support.ports import free_port
from support.servers import require_program
from support.waits import soon

EXAMPLE = Path(__file__).parents[2] / "deploy" / "nats" / "nats.conf"

PASSWORDS = {
    "den": "den-has-this-password",
    "bom": "bom-has-that-password",
    "fra": "fra-has-one-as-well",
}


class NatsProcess:
    """A server with any configuration, on a port of its own."""

    scheme = "nats"

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "nats.conf").write_text(config)
        self._program = require_program("nats-server", Path(sys.executable).parent)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        environment = os.environ | {f"NATS_{n.upper()}": p for n, p in PASSWORDS.items()}
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", "nats.conf", "-a", "127.0.0.1", "-p", str(self.port)],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        soon(self._is_open, lambda: (self.folder / "nats.log").read_text())

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _is_open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True


class NatsServer(NatsProcess):
    """The server of the example; serves the users of `PASSWORDS`, who show a certificate too."""

    scheme = "tls"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, with_user(EXAMPLE.read_text(encoding="utf-8"), "fra"))
        self.authority = Authority(folder)
        shutil.copy(self.authority.file, folder / "ca.pem")
        for name in ("server", *PASSWORDS):
            self.authority.issue(name, "127.0.0.1")
            (folder / f"{name}.password").write_text(PASSWORDS.get(name, "unused"))

    def keys(self) -> dict[str, object]:
        """Return what `cluster.nats` of every node says."""
        files = {"cert": "{region}.pem", "key": "{region}.key"}
        return {
            "servers": [self.url],
            "user": "{region}",
            "password_file": str(self.folder / "{region}.password"),
            "tls": {name: str(self.folder / f) for name, f in {"ca": "ca.pem", **files}.items()},
        }

    def bus(self, region: str, password: str | None = None, shows: bool = True) -> JetStreamBus:
        """Return a client of the server, as the node of `region`."""
        context: ssl.SSLContext = self.authority.client_context()
        if shows:
            context.load_cert_chain(self.folder / f"{region}.pem", self.folder / f"{region}.key")
        secret = PASSWORDS[region] if password is None else password
        return JetStreamBus(
            Access((self.url,), "onetrip", region, user=region, password=secret, tls=context)
        )


def with_user(config: str, name: str) -> str:
    """Return the example with one more region, made as it says: a user repeated and renamed."""
    block = re.search(r"    \{\n      user: bom.*?\n    \}\n", config, re.DOTALL)
    assert block is not None
    more = block[0].replace("bom", name).replace("BOM", name.upper())
    return config.replace(block[0], block[0] + more)
