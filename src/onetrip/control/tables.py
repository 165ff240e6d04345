"""The tables of the state file."""

from __future__ import annotations

SCHEMA_VERSION = 1
"""Written to `user_version`; a file with a larger one comes from a newer onetrip."""

APPLICATION_ID = 0x6F6E6574
"""Written to `application_id` ("onet"), so that another program's database is refused."""

SCHEMA = f"""
CREATE TABLE policies (
    project TEXT PRIMARY KEY,
    mode TEXT, hint TEXT, control_ratio REAL, explore_ratio REAL,
    base_digest TEXT NOT NULL, version INTEGER NOT NULL, origin TEXT NOT NULL
) STRICT;
CREATE TABLE blobs (name TEXT PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

ADDITIONS = """
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, scope TEXT NOT NULL, project TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL, used_at REAL
) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, caller TEXT NOT NULL,
    address TEXT NOT NULL, request_id TEXT NOT NULL, operation TEXT NOT NULL,
    subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, version INTEGER NOT NULL,
    origin TEXT NOT NULL, at REAL NOT NULL,
    mode TEXT, hint TEXT, control_ratio REAL, explore_ratio REAL,
    UNIQUE (project, version, origin)
) STRICT;
CREATE TABLE IF NOT EXISTS replies (
    caller TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, at REAL NOT NULL,
    status INTEGER NOT NULL, etag TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (caller, key)
) STRICT;
CREATE TABLE IF NOT EXISTS shares (
    project TEXT NOT NULL, version INTEGER NOT NULL, origin TEXT NOT NULL, share REAL NOT NULL,
    PRIMARY KEY (project, version, origin)
) STRICT;
CREATE TABLE IF NOT EXISTS webhooks (
    name TEXT PRIMARY KEY, url TEXT NOT NULL, failing_since REAL, is_disabled INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS webhook_messages (
    webhook TEXT NOT NULL, id TEXT NOT NULL, event TEXT NOT NULL, body BLOB NOT NULL,
    created_at REAL NOT NULL, attempts INTEGER NOT NULL, due_at REAL NOT NULL,
    is_refused INTEGER NOT NULL, PRIMARY KEY (webhook, id)
) STRICT;
CREATE TABLE IF NOT EXISTS resources (
    kind TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
    origin TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, project, name)
) STRICT;
"""
"""Tables that an older onetrip does not know and leaves alone, so a node can be set back to it."""
