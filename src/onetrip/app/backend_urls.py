"""`backends.<name>.url`: the connection URL of a database, as its provider shows it.

Taken are where it is and what it wants of TLS. User, password, database and everything else are
dropped here: a probe needs none of them, and nothing that was never kept can be shown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from onetrip.errors import ConfigError
from onetrip.model.catalog import BackendKind, DatabaseTls
from onetrip.model.topology import Endpoint

MAX_URL = 4096
"""Characters."""

SCHEMES = {
    "postgres": (BackendKind.POSTGRES, 5432),
    "postgresql": (BackendKind.POSTGRES, 5432),
    "mysql": (BackendKind.MYSQL, 3306),
    "mariadb": (BackendKind.MYSQL, 3306),
    "redis": (BackendKind.REDIS, 6379),
    "rediss": (BackendKind.REDIS, 6379),
}
"""Kind and usual port of each scheme."""

SSL_MODES = {mode.value: mode for mode in DatabaseTls} | {"allow": DatabaseTls.PREFER}
"""libpq's words; `allow` differs from `prefer` only in what is tried first."""

_HOST = re.compile(r"[0-9A-Za-z._:-]{1,253}(%[0-9A-Za-z]{1,16})?")


@dataclass(frozen=True, slots=True)
class BackendAddress:
    """Where a backend is.

    Attributes:
        ca_file: PEM file, "" for the system's authorities.
    """

    kind: BackendKind
    endpoint: Endpoint
    tls: DatabaseTls = DatabaseTls.PREFER
    ca_file: str = ""


def read_url(url: str | None, env: str | None, key: str) -> str:
    """Return a URL of the configuration or of a variable.

    Raises:
        ConfigError: both or none of them are set, or the variable is not.
    """
    if url is not None and env is not None:
        raise ConfigError(f"{key}.url: set either this or {key}.url_env, not both")
    if env is None:
        if url is None:
            raise ConfigError(f"{key}: url or url_env is required")
        return url
    text = os.environ.get(env, "").strip()
    if not text:
        raise ConfigError(f"{key}.url_env: environment variable {env} is not set")
    return text


def parse_url(text: str, key: str, folder: Path) -> BackendAddress:
    """Return what a connection URL says of its server.

    Args:
        key: where it is configured, for the error.
        folder: what a relative `sslrootcert` is relative to.

    Raises:
        ConfigError: it cannot be used; the message holds nothing of it but host and scheme.
    """
    if len(text) > MAX_URL:
        raise ConfigError(f"{key}: URL of {len(text)} characters exceeds limit of {MAX_URL}")
    try:
        parts = urlsplit(text)
        place = parts.netloc.rpartition("@")[2]
        host = unquote(parts.hostname or "")
    except ValueError:
        raise ConfigError(f"{key}: is not SCHEME://USER:PASSWORD@HOST[:PORT]/DATABASE") from None
    found = SCHEMES.get(parts.scheme)
    if found is None:
        raise ConfigError(f"{key}: its scheme is not one of {', '.join(SCHEMES)}")
    kind, port = found
    if "," in place:
        raise ConfigError(f"{key}: names several hosts; a backend is one server")
    if not _HOST.fullmatch(host):
        raise ConfigError(f"{key}: names no host that can be dialled")
    try:
        port = parts.port or port
    except ValueError:
        raise ConfigError(f"{key}: its port is not in 1-65535") from None
    if kind is BackendKind.POSTGRES:
        return _postgres(Endpoint(host, port), parts.query, key, folder)
    return BackendAddress(kind, Endpoint(host, port, host if parts.scheme == "rediss" else None))


def _postgres(endpoint: Endpoint, query: str, key: str, folder: Path) -> BackendAddress:
    try:
        words = dict(parse_qsl(query, max_num_fields=100))
    except ValueError:
        raise ConfigError(f"{key}: has more than 100 parameters") from None
    for word in ("host", "hostaddr", "port", "service"):
        if word in words:
            raise ConfigError(f"{key}: parameter {word} is not supported; write it before the path")
    mode = SSL_MODES.get(words.get("sslmode", DatabaseTls.PREFER.value))
    if mode is None:
        raise ConfigError(f"{key}: sslmode is not one of {', '.join(SSL_MODES)}")
    root = words.get("sslrootcert", "")
    if root == "system":  # which wants the name to be checked as well
        return BackendAddress(BackendKind.POSTGRES, endpoint, DatabaseTls.VERIFY_FULL)
    if root and mode is DatabaseTls.REQUIRE:
        mode = DatabaseTls.VERIFY_CA  # as libpq does
    file = str(folder / root) if root else ""
    if file and not Path(file).is_file():
        raise ConfigError(f"{key}: sslrootcert {root} is not a file")
    return BackendAddress(BackendKind.POSTGRES, endpoint, mode, file)
