"""`cluster.nats`: from configuration to reports over NATS; nothing of it is loaded without."""

from __future__ import annotations

import importlib.util
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from onetrip.app.schema import NatsEntry
from onetrip.app.security import read_secret
from onetrip.cluster.messages import PolicyRow, Report
from onetrip.cluster.state import ClusterState
from onetrip.errors import ConfigError
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.cluster.bus import SharedReports

MIN_TTL = 60.0
"""Seconds a report is kept at least after its node wrote it."""

_SERVER = re.compile(r"(nats|tls)://[A-Za-z0-9.\-\[\]:]+")


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """What `cluster.nats` says, checked; the password is never logged."""

    servers: tuple[str, ...]
    bucket: str
    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


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
    user = _named(entry.user, region)
    tls = _context(entry, folder, region)
    return NatsSettings(tuple(entry.servers), entry.bucket, user, password, tls)


def share(
    settings: NatsSettings | None,
    region: RegionId,
    secret: bytes | None,
    state: ClusterState,
    report: Callable[[], Report],
    on_policies: Callable[[list[PolicyRow]], None],
    on_report: Callable[[Report], None],
    *,
    interval: float,
    clock: Clock,
    rng: Random,
    metrics: Metrics,
    log: Log,
    tell: Callable[[str, str, str], None],
) -> SharedReports | None:
    """Return what exchanges reports over NATS, or None where it is not configured."""
    if settings is None or secret is None:
        return None
    from onetrip.cluster.bus import SharedReports
    from onetrip.cluster.jetstream import Access, JetStreamBus

    access = Access(
        settings.servers,
        settings.bucket,
        max(MIN_TTL, 20 * interval),
        region,
        settings.user,
        settings.password,
        settings.tls,
    )
    return SharedReports(
        region,
        secret,
        JetStreamBus(access),
        state,
        report,
        on_policies,
        on_report,
        clock=clock,
        rng=rng,
        metrics=metrics,
        log=log,
        tell=tell,
    )


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
