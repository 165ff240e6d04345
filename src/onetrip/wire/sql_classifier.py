"""Reads SQL to see what it would do (`sql_intent`).

Nothing is understood of names and types; a view that calls a function that writes looks like a
read, and is then refused by the replica itself (SQLSTATE 25006).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from onetrip.wire.sql_functions import (
    BEFORE_PARENTHESES,
    NEVER_READS,
    NODE_SETTINGS,
    PINNING_FUNCTIONS,
    PURE_FUNCTIONS,
)
from onetrip.wire.sql_intent import DOUBTFUL, Act, Intent, joined
from onetrip.wire.sql_statements import STATEMENTS
from onetrip.wire.sql_tokens import AmbiguousError, Token, TokenKind, tokens_of

MAX_READ = 32 * 1024
"""Longest text that is read token by token, bytes; a longer one is a bulk write or is taken so."""

MAX_KNOWN = 2048
"""Longest text that is remembered, bytes."""

_DOUBTS = re.compile(
    rb"(?i)pg_temp|set_config|setseed|advisory_lock|dblink"
    rb"|\b(?:temp|temporary|listen|prepare|hold|do|load|discard|deallocate|session|role|reset)\b"
    rb"|;\s*set\b|^\s*set\b"
)
"""Anything in a text too long to be read that may leave state behind."""


_LAZY = re.compile(rb"(?i)synchronous_commit")
"""Wherever it stands: SET LOCAL, a literal of set_config, the body of DO."""

_READERS = frozenset({"select", "values", "table", "with", "show", "explain"})


class Classifier:
    """Reads SQL, and remembers what it read.

    Args:
        functions: further functions that only read, lower case; `schema.name` or `name`.
        size: texts that are remembered.
    """

    def __init__(self, functions: Sequence[str] = (), size: int = 2000) -> None:
        self._pure = PURE_FUNCTIONS | frozenset(functions)
        self._known: dict[bytes, Intent] = {}
        self._size = size

    def classify(self, sql: bytes) -> Intent:
        """Return what `sql` would do."""
        if len(sql) > MAX_READ:
            return _unread(sql)
        found = self._known.get(sql)
        if found is None:
            found = self._read(sql)
            if len(sql) <= MAX_KNOWN:
                if len(self._known) >= self._size:
                    self._known.pop(next(iter(self._known)))
                self._known[sql] = found
        return found

    def _read(self, sql: bytes) -> Intent:
        try:
            statements = _split(tokens_of(sql))
        except AmbiguousError:
            return DOUBTFUL
        text = sql.decode("latin-1")
        found = joined([self._statement(tokens, text) for tokens in statements])
        return replace(found, is_lazy=True) if _LAZY.search(sql) else found

    def _statement(self, tokens: list[Token], text: str) -> Intent:
        first = tokens[0]
        head = first.text if first.kind is TokenKind.WORD else ""
        pins = _pins(tokens)
        if first.text == "(" or head in _READERS:
            act = Act.READ if self._is_read(tokens) else Act.WRITE
            return Intent(act, pins=pins or _makes_temporary(tokens))
        reader = STATEMENTS.get(head)
        if reader is None:
            return Intent(Act.WRITE, may_end=head in ("call", ""), pins=pins)
        found = reader([token.text for token in tokens], tokens, text)
        return joined([found, Intent(Act.NEUTRAL, pins=True)]) if pins else found

    def _is_read(self, tokens: list[Token]) -> bool:
        words = [token.text if token.kind is TokenKind.WORD else "" for token in tokens]
        if words[0] == "show":
            return len(words) == 2 and words[1] not in NODE_SETTINGS
        if words[0] == "explain" and not {"select", "values", "table"} & set(words):
            return False
        for at, token in enumerate(tokens):
            if token.kind is TokenKind.LITERAL or token.kind is TokenKind.SYMBOL:
                continue
            if words[at] in NEVER_READS:
                return False
            called = at + 1 < len(tokens) and tokens[at + 1].text == "("
            if called and not self._is_harmless(tokens, at):
                return False
            # What a node tells of itself (pg_stat_*, pg_locks) differs on a replica.
            if not called and token.text.startswith("pg_") and token.text != "pg_catalog":
                return False
        return True

    def _is_harmless(self, tokens: list[Token], at: int) -> bool:
        token = tokens[at]
        before = tokens[at - 1].text if at else ""
        if before == "." and at >= 2:
            schema = tokens[at - 2].text
            if schema == "pg_catalog":
                return token.kind is TokenKind.WORD and token.text in PURE_FUNCTIONS
            return f"{schema}.{token.text}" in self._pure
        if before == "as" and token.text != "pg_catalog":
            return True
        if token.kind is TokenKind.QUOTED:
            return False
        return token.text in BEFORE_PARENTHESES or token.text in self._pure


def _split(tokens: list[Token]) -> list[list[Token]]:
    statements: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind is TokenKind.SYMBOL:
            depth += (token.text == "(") - (token.text == ")")
            # Within a body BEGIN ATOMIC and in rules there may be more of them; all are writes.
            if token.text == ";":
                statements.append([])
                continue
        statements[-1].append(token)
    if depth:
        raise AmbiguousError("parentheses do not match")
    return [statement for statement in statements if statement]


def _unread(sql: bytes) -> Intent:
    doubts = _DOUBTS.search(sql) is not None
    return Intent(
        Act.WRITE,
        may_end=True,
        pins=doubts,
        may_copy=True,
        deallocates="" if doubts else None,
        is_lazy=doubts or _LAZY.search(sql) is not None,
    )


def _pins(tokens: list[Token]) -> bool:
    for at, token in enumerate(tokens):
        if token.kind is TokenKind.LITERAL or token.kind is TokenKind.SYMBOL:
            continue
        name = token.text
        if name.startswith("pg_temp") or "\\" in name:
            return True
        called = at + 1 < len(tokens) and tokens[at + 1].text == "("
        if called and name in PINNING_FUNCTIONS:
            if name != "set_config" or not _is_local(tokens, at + 1):
                return True
    return False


def _is_local(tokens: list[Token], at: int) -> bool:
    depth = 0
    for index in range(at, len(tokens)):
        text = tokens[index].text if tokens[index].kind is TokenKind.SYMBOL else ""
        depth += (text == "(") - (text == ")")
        if not depth:
            last = tokens[index - 1]
            return last == Token(TokenKind.WORD, "true", last.start, last.end) and (
                tokens[index - 2].text == ","
            )
    return False


def _makes_temporary(tokens: list[Token]) -> bool:
    words = {token.text for token in tokens if token.kind is TokenKind.WORD}
    return "into" in words and bool(words & {"temp", "temporary"})
