"""What the statements of SQL would do that neither read nor write rows: one reader a first word.

Source: PostgreSQL documentation, "SQL Commands".
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, takewhile

from onetrip.wire.sql_functions import KEPT_SETTINGS
from onetrip.wire.sql_intent import Act, Intent, Setting
from onetrip.wire.sql_tokens import Token, TokenKind

Reader = Callable[[list[str], list[Token], str], Intent]


def _begin(words: list[str], tokens: list[Token], text: str) -> Intent:
    if words[0] == "start" and words[1:2] != ["transaction"]:
        return Intent(Act.WRITE)
    pairs = set(pairwise(words))
    # A replica has no serializable mode.
    if ("read", "only") in pairs and "serializable" not in words and ("read", "write") not in pairs:
        return Intent(Act.BEGIN_READ_ONLY)
    is_told = ("read", "write") in pairs or "serializable" in words
    return Intent(Act.BEGIN_READ_WRITE if is_told else Act.BEGIN)


def _end(words: list[str], tokens: list[Token], text: str) -> Intent:
    if "prepared" in words:
        return Intent(Act.WRITE, may_end=True)
    if "to" in words:
        return Intent(Act.NEUTRAL, undoes=True)
    return Intent(Act.NEUTRAL, may_end=True)


def _set(words: list[str], tokens: list[Token], text: str) -> Intent:
    rest = words[1:]
    if rest[:1] == ["local"] or rest[:1] in (["transaction"], ["constraints"]):
        return Intent(Act.NEUTRAL)
    sql = text[tokens[0].start : tokens[-1].end]
    if rest[:2] == ["session", "characteristics"]:
        return _characteristics(rest[4:])
    if rest[:1] == ["session"]:
        rest = rest[1:]
    if rest[:2] == ["time", "zone"]:
        return _kept("timezone", sql)
    if rest[:1] == ["names"]:
        return _kept("client_encoding", sql)
    if len(rest) >= 3 and rest[0] in KEPT_SETTINGS and rest[1] in ("=", "to"):
        return _kept(rest[0], sql)
    return Intent(Act.NEUTRAL, pins=True)


def _kept(name: str, sql: str) -> Intent:
    if not sql.isascii():
        # Bytes whose meaning depends on the encoding of the session cannot be said again.
        return Intent(Act.NEUTRAL, pins=True)
    return Intent(Act.NEUTRAL, settings=(Setting(name, sql),))


def _characteristics(modes: list[str]) -> Intent:
    name = "default_transaction_read_only"
    if modes == ["read", "only"]:
        return _kept(name, f"SET {name} = on")
    if modes == ["read", "write"]:
        return _kept(name, f"SET {name} = off")
    return Intent(Act.NEUTRAL, pins=True)


def _reset(words: list[str], tokens: list[Token], text: str) -> Intent:
    if words[1:] == ["all"]:
        return Intent(Act.NEUTRAL, settings=(Setting("", None),))
    name = "timezone" if words[1:] == ["time", "zone"] else words[-1]
    if name in KEPT_SETTINGS and (len(words) == 2 or name == "timezone"):
        return Intent(Act.NEUTRAL, settings=(Setting(name, None),))
    return Intent(Act.NEUTRAL, pins=words[1:2] != ["transaction"])


def _prepare(words: list[str], tokens: list[Token], text: str) -> Intent:
    if words[1:2] == ["transaction"]:
        return Intent(Act.WRITE, may_end=True)
    return Intent(Act.WRITE, pins=True)


def _deallocate(words: list[str], tokens: list[Token], text: str) -> Intent:
    name = words[-1]
    is_all = tokens[-1] == Token(TokenKind.WORD, "all", tokens[-1].start, tokens[-1].end)
    return Intent(Act.NEUTRAL, deallocates="" if is_all else name)


def _discard(words: list[str], tokens: list[Token], text: str) -> Intent:
    if words[1:] == ["all"]:
        return Intent(Act.NEUTRAL, deallocates="", discards=True, settings=(Setting("", None),))
    return Intent(Act.NEUTRAL)


def _create(words: list[str], tokens: list[Token], text: str) -> Intent:
    kind = takewhile(lambda word: word not in ("table", "view", "sequence", "("), words)
    return Intent(Act.WRITE, pins=bool({"temp", "temporary"} & set(kind)))


def _declare(words: list[str], tokens: list[Token], text: str) -> Intent:
    return Intent(Act.WRITE, pins="hold" in words and "without" not in words)


def _plain(intent: Intent) -> Reader:
    return lambda words, tokens, text: intent


STATEMENTS: dict[str, Reader] = {
    "begin": _begin,
    "start": _begin,
    **dict.fromkeys(("commit", "end", "rollback", "abort"), _end),
    **dict.fromkeys(
        ("savepoint", "release", "fetch", "move", "close", "unlisten"),
        _plain(Intent(Act.NEUTRAL)),
    ),
    "set": _set,
    "reset": _reset,
    "prepare": _prepare,
    "deallocate": _deallocate,
    "discard": _discard,
    "create": _create,
    "declare": _declare,
    "copy": _plain(Intent(Act.WRITE, may_copy=True)),
    "do": _plain(Intent(Act.WRITE, may_end=True, pins=True)),
    **dict.fromkeys(("listen", "load"), _plain(Intent(Act.NEUTRAL, pins=True))),
    "execute": _plain(Intent(Act.WRITE, pins=True)),
}
"""By first word; any other statement is a write."""
