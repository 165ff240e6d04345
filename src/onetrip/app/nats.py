"""`cluster.nats`: from configuration to settings; nothing of it is loaded without."""

from __future__ import annotations

import importlib.util
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from onetrip.app.schema import NatsEntry
from onetrip.app.security import read_secret
from onetrip.errors import ConfigError, PeerError

_SERVER = re.compile(r"(nats|tls)://[A-Za-z0-9.\-\[\]:]+")


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """What `cluster.nats` says, checked; the password is never logged.

    Attributes:
        credentials: file with a user's token and seed, read at each connection.
        nkey: file with an nkey's seed, read at each connection.
    """

    servers: tuple[str, ...]
    prefix: str
    replicas: int
    user: str | None
    password: str | None
    credentials: Path | None
    nkey: Path | None
    tls: ssl.SSLContext | None = field(compare=False)  # read anew by every reload


def build_nats(
    entry: NatsEntry | None, folder: Path, region: str, has_secret: bool
) -> NatsSettings | None:
    """Check `cluster.nats`.

    Raises:
        ConfigError: `KEY: reason`.
    """
    if entry is None:
        return None
    if not has_secret:
        raise ConfigError("cluster: secret_file or secret_env is required with cluster.nats")
    if importlib.util.find_spec("nats") is None:
        raise ConfigError("cluster.nats: needs nats-py: pip install onetrip[nats]")
    for number, server in enumerate(entry.servers):
        if not _SERVER.fullmatch(server):
            raise ConfigError(
                f"cluster.nats.servers[{number}]: {server.rpartition('@')[2]!r} is not "
                "nats://HOST:PORT or tls://HOST:PORT"
            )
    password = read_secret(
        folder, _named(entry.password_file, region), entry.password_env, "cluster.nats.password"
    )
    if (entry.user is None) != (password is None):
        raise ConfigError("cluster.nats: user and password_file or password_env go together")
    shown = [entry.user, entry.credentials_file, entry.nkey_file]
    if len(shown) - shown.count(None) > 1:
        raise ConfigError("cluster.nats: only one of user, credentials_file and nkey_file")
    return NatsSettings(
        tuple(entry.servers),
        entry.prefix,
        entry.replicas,
        _named(entry.user, region),
        password,
        _seeded(entry.credentials_file, "cluster.nats.credentials_file", folder, region),
        _seeded(entry.nkey_file, "cluster.nats.nkey_file", folder, region),
        _context(entry, folder, region),
    )


def longest_silence(settings: NatsSettings | None, interval: float, regions: int) -> float:
    """Return the time without news after which a node known by NATS alone may be gone, s."""
    if settings is None:
        return 0.0
    from onetrip.cluster.pace import MISSED_BEATS, beat_interval

    return MISSED_BEATS * beat_interval(interval, regions)


def _seeded(text: str | None, key: str, folder: Path, region: str) -> Path | None:
    """Return a file that proves who we are, once it can be used."""
    if text is None:
        return None
    if importlib.util.find_spec("nkeys") is None:
        raise ConfigError(f"{key}: needs nkeys: pip install onetrip[nats]")
    path = folder / text.replace("{region}", region)
    from onetrip.cluster.nats_proof import CREDENTIALS, NKEY, read_proof

    try:
        read_proof(path, CREDENTIALS if key.endswith("credentials_file") else NKEY)
    except PeerError as error:
        raise ConfigError(str(error)) from error
    return path


def _named(text: str | None, region: str) -> str | None:
    return text.replace("{region}", region) if text is not None else None


def _context(entry: NatsEntry, folder: Path, region: str) -> ssl.SSLContext | None:
    files = entry.tls
    if files is None:
        return None
    ca, cert, key = (
        folder / text.replace("{region}", region) for text in (files.ca, files.cert, files.key)
    )
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except OSError as error:
        raise ConfigError(f"cluster.nats.tls.ca: {ca}: {error.strerror or error}") from error
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cluster.nats.tls.cert: {cert} with {key}: {reason}") from error
    return context
