"""What a session is at, apart from its bytes: transaction, settings, and whether it is pinned.

Pure. A *pinned* session keeps its connection to the primary until it ends, because something in it
cannot be made again on another one. Settings can: they are kept by the statement that makes them,
and become the session's when the transaction that they were made in commits.
"""

from __future__ import annotations

import re

from onetrip.wire.sql_intent import Act, Intent, Setting

SAFE_ENCODINGS = re.compile(
    r"(?i)utf-?8|unicode|sql_ascii|latin\d{1,2}|iso_?8859_?\d{1,2}|win\d{3,4}|koi8r?|koi8u|euc_..|"
)
"""Encodings whose letters hold no byte of ASCII, so that SQL can be read byte by byte."""

_ON = re.compile(r"(?i)(?:=|\bto\b|,)\s*'?(?:on|true|yes|1)\b")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,62}")

READ_ONLY, ISOLATION = "default_transaction_read_only", "default_transaction_isolation"


class SessionState:
    """One session.

    Args:
        startup: parameters that the client named when it started.
        is_pinned: from its start.
    """

    def __init__(self, startup: dict[str, str], *, is_pinned: bool = False) -> None:
        self._startup = {name: _set_config(name, value) for name, value in startup.items()}
        self.settings = dict(self._startup)
        self.status = b"I"
        self.is_pinned = self._is_always_pinned = is_pinned
        self.may_have_written = False
        self.is_lazy = "synchronous_commit" in startup
        """Its commits may not wait for the disk."""
        self.deallocated: list[str] = []
        """Prepared statements that SQL dropped in the last batch; "" for all."""
        self._pending: list[Setting] = []
        self._batch: list[Intent] = []

    @property
    def is_idle(self) -> bool:
        """Tell whether no transaction is under way."""
        return self.status == b"I"

    def may_use_replica(self, intent: Intent) -> bool:
        """Tell whether a transaction that begins with `intent` may run on a replica."""
        if self.is_pinned or intent.pins or "serializable" in self.settings.get(ISOLATION, ""):
            return False
        if intent.act in (Act.READ, Act.BEGIN_READ_ONLY):
            return not intent.settings
        is_read_only = _ON.search(self.settings.get(READ_ONLY, "")) is not None
        return is_read_only and intent.act is Act.BEGIN

    def would_pin(self, intent: Intent) -> bool:
        """Tell whether a batch would leave state that cannot be made again.

        In a transaction that has failed nothing does; but a way back to a savepoint undoes settings
        that nobody here can tell from those that it leaves.
        """
        return (intent.pins and self.status != b"E") or (intent.undoes and bool(self._pending))

    def sent(self, intent: Intent) -> None:
        """A batch was sent."""
        self._batch.append(intent)
        if intent.act is Act.WRITE:
            self.may_have_written = True
        self.is_lazy = self.is_lazy or intent.is_lazy
        self.is_pinned = self.is_pinned or self.would_pin(intent)

    def forget(self) -> None:
        """What was sent did not happen, and is sent again."""
        self._batch.clear()
        self.may_have_written = False

    def ready(self, status: bytes, *, is_failed: bool, is_committed: bool) -> list[Setting]:
        """Take ReadyForQuery.

        Args:
            is_failed: an error came.
            is_committed: the last thing that completed was COMMIT, or was no ROLLBACK.

        Returns:
            The settings that are the session's from now on.
        """
        batch, self._batch = self._batch, []
        names = [intent.deallocates for intent in batch if not is_failed]
        self.deallocated = [name for name in names if name is not None]
        if not is_failed:
            self._pending += [setting for intent in batch for setting in intent.settings]
        self.status = status
        if status != b"I":
            return []
        applied, self._pending = self._pending, []
        self.may_have_written = False
        if not is_committed or is_failed:
            return []
        for setting in applied:
            self._apply(setting)
        if any(intent.discards for intent in batch):
            self.is_pinned = self._is_always_pinned
        return applied

    def reported(self, name: str, value: str) -> None:
        """The server reports a parameter of the session."""
        if name == "standard_conforming_strings":
            self._doubt(value != "on")
        elif name == "client_encoding":
            self._doubt(SAFE_ENCODINGS.fullmatch(value) is None)

    def _doubt(self, is_unreadable: bool) -> None:
        # Its SQL cannot be read surely, so all of it goes one way.
        if is_unreadable:
            self.is_pinned = True

    def _apply(self, setting: Setting) -> None:
        if setting.sql is not None:
            self.settings[setting.name] = setting.sql
        elif not setting.name:
            self.settings = dict(self._startup)
        elif setting.name in self._startup:
            self.settings[setting.name] = self._startup[setting.name]
        else:
            self.settings.pop(setting.name, None)


def differences(wanted: dict[str, str], present: dict[str, str]) -> str:
    """Return the SQL that makes the settings `present` those that are wanted; "" where they are."""
    if wanted == present:
        return ""
    undone = [f"RESET {name}" for name in present if name not in wanted]
    made = [sql for name, sql in wanted.items() if present.get(name) != sql]
    return "; ".join(undone + made)


def startup_settings(parameters: dict[str, str]) -> dict[str, str]:
    """Return the settings among the parameters of a start.

    Raises:
        ValueError: one of them is no setting.
    """
    found: dict[str, str] = {}
    for name, value in parameters.items():
        if name == "options":
            found |= _options(value)
        elif name not in ("user", "database", "replication") and not name.startswith("_pq_."):
            found[name.lower()] = value
    for name in found:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is not the name of a setting")
    return found


def _options(text: str) -> dict[str, str]:
    # As pg_split_opts of the server: words by space, backslash takes the next character as it is.
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", text)]
    found: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "-c" and at + 1 < len(words):
            at += 1
            pair = words[at]
        elif word.startswith("-c") or word.startswith("--"):
            pair = word[2:]
        else:
            raise ValueError(f"option {word[:40]!r} is not -c name=value")
        name, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"option {pair[:40]!r} is not name=value")
        found[name.replace("-", "_").lower()] = value
        at += 1
    return found


def _set_config(name: str, value: str) -> str:
    # Not SET: it would take a list of values, as of search_path, for one.
    quoted = value.replace("'", "''")
    if "\\" in quoted:
        quoted = quoted.replace("\\", "\\\\")
        return f"SELECT pg_catalog.set_config('{name}', E'{quoted}', false)"
    return f"SELECT pg_catalog.set_config('{name}', '{quoted}', false)"
