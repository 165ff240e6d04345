"""The shape of a routing relay's file: strict structs, their defaults and their bounds.

Times are seconds. Every key is documented in docs/relay.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from onetrip.app.schema_base import Strict, Text

Wait = Annotated[float, Meta(ge=0, le=60)]
Name = Annotated[str, Meta(pattern="^[a-z0-9-]{1,32}$")]


class ServerEntry(Strict):
    """`primary` and `replicas.<name>`: one server of the database."""

    address: Text
    tls: Literal["verify", "off"] = "verify"
    tls_name: Text | None = None
    """Name in its certificate; the address's host unless told."""
    ca: Text | None = None
    """File of the authority that issued it; the system's unless told."""


class LoginEntry(Strict):
    """`accounts.<name>.login`: who the relay is towards the servers, where that is another one."""

    user: Text | None = None
    password_file: Text | None = None
    password_env: Text | None = None


class AccountEntry(Strict):
    """`accounts.<name>`: a user that clients may be."""

    password_file: Text | None = None
    password_env: Text | None = None
    verifier_file: Text | None = None
    """File with what PostgreSQL keeps of the password, instead of the password."""
    login: LoginEntry = field(default_factory=LoginEntry)


class WatchEntry(Strict):
    """`watch`: with which account the servers are asked for role and position, and how often."""

    account: Text | None = None
    database: Text = "postgres"
    interval: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    least: Annotated[float, Meta(ge=0.001, le=1)] = 0.01


class PoolEntry(Strict):
    """`pool`: bounds of the connections of one account to one database of one server."""

    mode: Literal["transaction", "session"] = "transaction"
    size: Annotated[int, Meta(ge=1, le=10_000)] = 20
    waiting: Annotated[int, Meta(ge=0, le=100_000)] = 500
    wait: Wait = 5.0
    idle: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    lifetime: Annotated[float, Meta(ge=10, le=604_800)] = 3600.0


class ReadsEntry(Strict):
    """`reads`: what may go to a replica."""

    wait: Wait = 0.1
    functions: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)


class ClientTlsEntry(Strict):
    """`tls`: the certificate that clients see."""

    cert: Text
    key: Text


class RouteApiEntry(Strict):
    """`api`: where the node asks for positions."""

    listen: Text
    token_file: Text | None = None
    token_env: Text | None = None


class RouteFile(Strict):
    """The whole file."""

    primary: ServerEntry
    accounts: Annotated[dict[Text, AccountEntry], Meta(min_length=1, max_length=1000)]
    replicas: Annotated[dict[Name, ServerEntry], Meta(max_length=32)] = field(default_factory=dict)
    others: Literal["refuse", "pass"] = "refuse"
    watch: WatchEntry = field(default_factory=WatchEntry)
    pool: PoolEntry = field(default_factory=PoolEntry)
    reads: ReadsEntry = field(default_factory=ReadsEntry)
    tls: ClientTlsEntry | None = None
    api: RouteApiEntry | None = None
