"""The file of a routing relay, read and checked as a whole."""

from __future__ import annotations

import secrets
import ssl
from pathlib import Path

from onetrip.app.config_file import decode
from onetrip.app.listeners import parse_listener
from onetrip.app.named import endpoint_at
from onetrip.app.schema_route import AccountEntry, RouteApiEntry, RouteFile, ServerEntry
from onetrip.app.security import read_secret
from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip.net.tls import load_certificate
from onetrip.relay.route_settings import (
    Account,
    DatabaseEndpoint,
    Others,
    PoolLimits,
    PoolMode,
    RouteSettings,
)
from onetrip.wire.scram import SALT_SIZE, Verifier

PRIMARY = "primary"
"""Name of the server that is declared as such; a replica may take its place."""

MAX_VERIFIER_SIZE = 1024


def load_route(path: Path) -> RouteSettings:
    """Read and check the file of a routing relay.

    Raises:
        ConfigError: one line, `FILE: KEY: reason`.
    """
    try:
        return _build(decode(path, RouteFile), path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _build(file: RouteFile, folder: Path) -> RouteSettings:
    if PRIMARY in file.replicas:
        raise ConfigError(f"replicas.{PRIMARY}: this name is the primary's")
    endpoints = [_endpoint(PRIMARY, file.primary, "primary", folder)]
    endpoints += [
        _endpoint(name, entry, f"replicas.{name}", folder) for name, entry in file.replicas.items()
    ]
    if file.others == "pass" and any(endpoint.tls is not None for endpoint in endpoints):
        raise ConfigError("others: to pass sessions on untouched needs tls: off at every server")
    watch = file.watch.account or next(iter(file.accounts))
    if watch not in file.accounts:
        raise ConfigError(f"watch.account: {watch[:40]!r} is not among the accounts")
    api, token = _api(file.api, folder)
    pool = file.pool
    return RouteSettings(
        endpoints=tuple(endpoints),
        accounts={name: _account(name, entry, folder) for name, entry in file.accounts.items()},
        watch=watch,
        watch_database=file.watch.database,
        mode=PoolMode(pool.mode),
        others=Others(file.others),
        pool=PoolLimits(pool.size, pool.waiting, pool.wait, pool.idle, pool.lifetime),
        replica_wait=file.reads.wait,
        check_interval=file.watch.interval,
        check_least=file.watch.least,
        functions=tuple(name.lower() for name in file.reads.functions),
        client_tls=_client_tls(file, folder),
        api=api,
        api_token=token,
    )


def _endpoint(name: str, entry: ServerEntry, key: str, folder: Path) -> DatabaseEndpoint:
    at = endpoint_at(entry.address, f"{key}.address")
    if entry.tls == "off":
        if entry.ca is not None or entry.tls_name is not None:
            raise ConfigError(f"{key}.tls: off, but ca or tls_name is set")
        return DatabaseEndpoint(name, at)
    try:
        context = ssl.create_default_context(cafile=str(folder / entry.ca) if entry.ca else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{key}.ca: {entry.ca} cannot be used: {error.strerror}") from error
    return DatabaseEndpoint(name, at, context, entry.tls_name or at.host)


def _account(name: str, entry: AccountEntry, folder: Path) -> Account:
    key = f"accounts.{name[:40]}"
    password = read_secret(
        folder, entry.password_file, entry.password_env, f"{key}.password", least=1
    )
    login = entry.login
    own = read_secret(
        folder, login.password_file, login.password_env, f"{key}.login.password", least=1
    )
    if (password is None) == (entry.verifier_file is None):
        raise ConfigError(f"{key}: set one of password_file, password_env and verifier_file")
    if password is not None:
        verifier = Verifier.of(password, secrets.token_bytes(SALT_SIZE))
    else:
        verifier = _verifier(folder / str(entry.verifier_file), f"{key}.verifier_file")
    # The servers may ask for none: by certificate of the host, or trust.
    return Account(name, verifier, login.user or name, own if own is not None else password)


def _verifier(path: Path, key: str) -> Verifier:
    try:
        text = path.read_text(encoding="ascii")[:MAX_VERIFIER_SIZE]
        return Verifier.parse(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise ConfigError(f"{key}: {path} cannot be read: {reason}") from error
    except ConfigError as error:
        raise ConfigError(f"{key}: {path} holds {error}") from error


def _client_tls(file: RouteFile, folder: Path) -> ssl.SSLContext | None:
    if file.tls is None:
        return None
    try:
        return load_certificate(
            folder / file.tls.cert, folder / file.tls.key, protocols=("postgresql",)
        )
    except ConfigError as error:
        raise ConfigError(f"tls.{error}") from error


def _api(entry: RouteApiEntry | None, folder: Path) -> tuple[Endpoint | None, str | None]:
    if entry is None:
        return None, None
    token = read_secret(folder, entry.token_file, entry.token_env, "api.token")
    where = parse_listener(entry.listen, "api.listen")
    if not where.is_loopback and token is None:
        raise ConfigError(
            f"api.listen: {where.host} is not loopback, so api.token_file or "
            "api.token_env is required"
        )
    return Endpoint(where.host, where.port), token
