"""Pebble, Let's Encrypt's test server for ACME clients, run on loopback (Debian: `pebble`).

Every name resolves to 127.0.0.1, by the DNS server that comes with it. It refuses some good nonces
by design, as a client has to expect.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.certs import Authority
from support.ports import free_ports
from support.servers import require_program, running_server


@dataclass(frozen=True, slots=True)
class Pebble:
    """A running Pebble.

    Attributes:
        directory: its ACME directory.
        ca_file: who vouches for its own server.
        http_port, tls_port: where it validates.
    """

    directory: str
    ca_file: Path
    http_port: int
    tls_port: int
    management: str

    def root(self) -> str:
        """Return the root of what it issues, PEM."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(f"{self.management}/roots/0", context=context) as reply:
            return str(reply.read().decode())


@contextmanager
def running_pebble(
    folder: Path, *, accounts: Mapping[str, str] | None = None, refused_nonces: int = 5
) -> Iterator[Pebble]:
    """Run Pebble.

    Args:
        refused_nonces: percentage of good nonces that it refuses.
        accounts: HMAC keys (base64url) by key id, one of which a new account has to show.
    """
    program, names = require_program("pebble"), require_program("pebble-challtestsrv")
    authority = Authority(folder, "pebble-ca")
    pair = authority.issue("pebble", "localhost", "127.0.0.1")
    acme, management, http, tls, dns, dns_management = free_ports(6)
    config = folder / "pebble.json"
    options = {
        "listenAddress": f"127.0.0.1:{acme}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(pair.cert),
        "privateKey": str(pair.key),
        "httpPort": http,
        "tlsPort": tls,
        "externalAccountBindingRequired": accounts is not None,
        "externalAccountMACKeys": dict(accounts or {}),
    }
    config.write_text(json.dumps({"pebble": options}))
    resolver = [names, "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}"]
    resolver += ["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
    command = [program, "-strict", "-config", str(config), "-dnsserver", f"127.0.0.1:{dns}"]
    more = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(refused_nonces)}
    with (
        running_server(resolver, dns_management),
        running_server(command, acme, more),
    ):
        yield Pebble(
            f"https://127.0.0.1:{acme}/dir",
            authority.file,
            http,
            tls,
            f"https://127.0.0.1:{management}",
        )
