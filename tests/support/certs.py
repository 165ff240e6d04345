"""Certificates for tests, made by the `openssl` program in a folder of the test's own."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.servers import require_program


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority of its own; `file` is its certificate."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.name = name
        self.file = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(self._key), "-out", str(self.file), "-days", "30"),
            *("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign"),
        )

    def issue(
        self, name: str, *hosts: str, days: int = 30, usage: str = "serverAuth,clientAuth"
    ) -> Pair:
        """Issue a certificate for `hosts` (names or IP addresses) into files called `name`.

        Args:
            days: until it expires; negative for one that has expired already.
        """
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(pair.key), "-out", str(request), "-subj", f"/CN={name}"),
        )
        names = ",".join(f"{'IP' if _is_address(h) else 'DNS'}:{h}" for h in hosts)
        lines = [f"extendedKeyUsage={usage}"] + ([f"subjectAltName={names}"] if names else [])
        extensions.write_text("\n".join(lines) + "\n")
        _openssl(
            *("x509", "-req", "-in", str(request), "-out", str(pair.cert), "-days", str(days)),
            *("-CA", str(self.file), "-CAkey", str(self._key), "-extfile", str(extensions)),
        )
        return pair

    def lock(self, key: str, into: str) -> None:
        """Write a copy of a key file that is encrypted with a password."""
        _openssl(
            *("pkey", "-in", str(self.folder / key), "-out", str(self.folder / into)),
            *("-aes128", "-passout", "pass:secret"),
        )

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return a client context that trusts this authority only, and may show `pair`."""
        context = ssl.create_default_context(cafile=str(self.file))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _openssl(*arguments: str) -> None:
    command = [require_program("openssl"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
