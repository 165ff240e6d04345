"""Connection URLs as providers show them: what is taken, and that nothing secret stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.catalog import Backend, BackendKind, DatabaseTls
from onetrip.model.topology import Endpoint

PG = BackendKind.POSTGRES
NEON = "ep-cool-darkness-a1b2c3d4"


def load(folder: Path, **entry: Any) -> Backend:
    path = folder / "onetrip.yaml"
    path.write_text(yaml.safe_dump({"regions": {"den": {}}, "backends": {"db": entry}}))
    return load_settings(path).catalog.backends["db"]


@pytest.mark.parametrize(
    ("url", "kind", "endpoint", "tls"),
    [
        (  # Neon, direct
            f"postgresql://app:S3cr3t@{NEON}.us-east-2.aws.neon.tech/neondb?sslmode=require",
            *(PG, Endpoint(f"{NEON}.us-east-2.aws.neon.tech", 5432), DatabaseTls.REQUIRE),
        ),
        (  # Neon, pooled, for clients that cannot tell a server name
            f"postgres://app:S3cr3t@{NEON}-pooler.us-east-2.aws.neon.tech/db"
            f"?sslmode=require&channel_binding=require&options=endpoint%3D{NEON}",
            *(PG, Endpoint(f"{NEON}-pooler.us-east-2.aws.neon.tech", 5432), DatabaseTls.REQUIRE),
        ),
        (  # Supabase, direct: IPv6 only
            "postgresql://postgres:S3cr3t@db.abcdefghijkl.supabase.co:5432/postgres",
            *(PG, Endpoint("db.abcdefghijkl.supabase.co", 5432), DatabaseTls.PREFER),
        ),
        (  # Supabase, transaction pooler
            "postgresql://postgres.abcdefghijkl:S3cr3t@aws-0-us-east-1.pooler.supabase.com:6543/db",
            *(PG, Endpoint("aws-0-us-east-1.pooler.supabase.com", 6543), DatabaseTls.PREFER),
        ),
        (  # Supabase, session pooler
            "postgres://postgres.abcdefghijkl:S3cr3t@aws-0-us-east-1.pooler.supabase.com:5432/db"
            "?sslmode=verify-full",
            *(PG, Endpoint("aws-0-us-east-1.pooler.supabase.com", 5432), DatabaseTls.VERIFY_FULL),
        ),
        (  # what a generated password may hold, escaped
            "postgres://app:S3cr3t%40%2F%3A%23@[2001:db8::5]:6432/db?sslmode=disable",
            *(PG, Endpoint("2001:db8::5", 6432), DatabaseTls.DISABLE),
        ),
        (
            "postgres://h.example/db?sslmode=require&sslrootcert=system",
            *(PG, Endpoint("h.example", 5432), DatabaseTls.VERIFY_FULL),
        ),
        (
            "mysql://root:S3cr3t@db.example/shop?ssl-mode=REQUIRED",
            *(BackendKind.MYSQL, Endpoint("db.example", 3306), DatabaseTls.PREFER),
        ),
        (
            "rediss://default:S3cr3t@eu1-x.upstash.example:6380",
            BackendKind.REDIS,
            Endpoint("eu1-x.upstash.example", 6380, "eu1-x.upstash.example"),
            DatabaseTls.PREFER,
        ),
        (
            "redis://:S3cr3t@cache.example/0",
            *(BackendKind.REDIS, Endpoint("cache.example", 6379), DatabaseTls.PREFER),
        ),
    ],
)
def test_where_a_database_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    kind: BackendKind,
    endpoint: Endpoint,
    tls: DatabaseTls,
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    found = load(tmp_path, url_env="DATABASE_URL")
    assert (found.kind, found.endpoint, found.tls) == (kind, endpoint, tls)
    assert found == load(tmp_path, url=url)
    assert "S3cr3t" not in repr(found)
    assert "app" not in repr(found)


def test_an_authority_of_ones_own_is_checked_as_libpq_does(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    found = load(tmp_path, url="postgres://h/db?sslmode=require&sslrootcert=ca.pem")
    assert (found.tls, found.ca_file) == (DatabaseTls.VERIFY_CA, str(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "backends.db: kind and address are required, or url or url_env"),
        ({"kind": "tcp"}, "backends.db: kind and address are required"),
        ({"url": "postgres://h/d", "url_env": "X"}, "backends.db.url: set either this or"),
        ({"url": "postgres://h/d", "address": "h:1"}, "backends.db.address: the URL says it"),
        (
            {"url": "postgres://h/d", "kind": "mysql"},
            "backends.db.kind: the URL is one of postgres",
        ),
        ({"url_env": "UNSET"}, "backends.db.url_env: environment variable UNSET is not set"),
        ({"url": "https://S3cr3t@h/d"}, "backends.db.url: its scheme is not one of postgres, "),
        ({"url": "postgres://u:S3cr3t@/d"}, "backends.db.url: names no host"),
        ({"url": "postgres:///d?host=/run/S3cr3t"}, "backends.db.url: names no host"),
        ({"url": "postgres://u:S3cr3t@a:1,b:2/d"}, "backends.db.url: names several hosts"),
        ({"url": "postgres://u:S3cr3t@h:99999/d"}, "backends.db.url: its port is not in 1-65535"),
        ({"url": "postgres://u:S3cr3t/x@h/d"}, "backends.db.url: "),
        ({"url": "postgres://h/S3cr3t?sslmode=maybe"}, "backends.db.url: sslmode is not one of"),
        ({"url": "postgres://h/d?host=S3cr3t"}, "parameter host is not supported"),
        ({"url": "postgres://h/d?sslrootcert=no.pem"}, "sslrootcert no.pem is not a file"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **entry)
    assert reason in str(caught.value)
    assert "S3cr3t" not in str(caught.value)
