"""What a routing relay is started with, checked. Times in s, sizes in bytes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields
from enum import StrEnum

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip.wire.scram import Verifier

_RANGES = {
    "size": (1, 10_000),
    "waiting": (0, 100_000),
    "wait": (0.0, 60.0),
    "idle": (1.0, 86_400.0),
    "lifetime": (10.0, 7 * 86_400.0),
    "replica_wait": (0.0, 60.0),
    "check_interval": (0.05, 60.0),
    "check_least": (0.001, 1.0),
}


class PoolMode(StrEnum):
    """For how long a session keeps its connection to the primary."""

    TRANSACTION = "transaction"
    SESSION = "session"


class Others(StrEnum):
    """What happens to users that have no account here."""

    PASS = "pass"
    REFUSE = "refuse"


def _check(settings: object) -> None:
    for each in fields(settings):  # type: ignore[arg-type]
        low, high = _RANGES.get(each.name, (None, None))
        value = getattr(settings, each.name)
        if low is not None and high is not None and not low <= value <= high:
            raise ConfigError(f"{each.name} is {value:g}; it must be in {low:g}..{high:g}")


@dataclass(frozen=True, slots=True)
class DatabaseEndpoint:
    """One server of the database.

    Attributes:
        tls: context to verify it with, or None to talk in clear.
        tls_name: the name that its certificate must carry.
    """

    name: str
    at: Endpoint
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_name: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """A user that clients may be, and who the relay is towards the servers for them.

    Attributes:
        verifier: what proves the client.
        user: name at the servers.
        password: the relay's own, for the servers; None where they ask for none.
    """

    name: str
    verifier: Verifier = field(repr=False)
    user: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one pool: the connections of one account to one database of one server.

    Attributes:
        size: most connections.
        waiting: most sessions that wait for one.
        wait: longest wait.
        idle: an unused connection is closed after this.
        lifetime: a connection is not used again after this.

    Raises:
        ConfigError: a value is outside its range.
    """

    size: int = 20
    waiting: int = 500
    wait: float = 5.0
    idle: float = 600.0
    lifetime: float = 3600.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """Where a routing relay leads, and how.

    Attributes:
        endpoints: servers of the database, the declared primary first.
        watch: name of the account that looks after roles and positions.
        watch_database: where it logs in.
        replica_wait: longest wait for a replica to be fresh; then the primary serves.
        check_interval: between two looks at each server.
        check_least: least time between two looks that somebody waits for.
        functions: further SQL functions that only read.
        client_tls: context for clients, or None to refuse TLS.
        api: where the node asks for positions, or None.
        api_token: what it must show, or None on loopback.

    Raises:
        ConfigError: a value is outside its range, or names nothing.
    """

    endpoints: tuple[DatabaseEndpoint, ...]
    accounts: dict[str, Account]
    watch: str
    watch_database: str
    mode: PoolMode = PoolMode.TRANSACTION
    others: Others = Others.REFUSE
    pool: PoolLimits = PoolLimits()
    replica_wait: float = 0.1
    check_interval: float = 1.0
    check_least: float = 0.01
    functions: tuple[str, ...] = ()
    client_tls: ssl.SSLContext | None = field(default=None, repr=False)
    api: Endpoint | None = None
    api_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        if self.watch not in self.accounts:
            raise ConfigError(f"watch.account {self.watch[:40]!r} is not among the accounts")
