"""PostgreSQL's SQL as tokens, as far as they must be told apart to see what a statement does.

What could be read in two ways (by another server version, another setting, another encoding) is
not read at all: `AmbiguousError`. Callers then assume the worst. The text is taken byte by byte
(as latin-1), like the server's own scanner does, for which every byte above 127 is a letter.

Source: PostgreSQL documentation, "Lexical Structure"; the rules of `scan.l`.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

from onetrip.errors import Kind, ProtocolError

MAX_DEPTH = 64
"""Deepest nesting of comments."""


class AmbiguousError(ProtocolError):
    """SQL that does not surely mean one thing."""

    kind = Kind.UNSUPPORTED


class TokenKind(Enum):
    """What a token is."""

    WORD = auto()
    """An identifier or keyword; its text is in lower case."""
    QUOTED = auto()
    """A quoted identifier; its text is without the quotes."""
    LITERAL = auto()
    """A string, number or parameter."""
    SYMBOL = auto()
    """One character of an operator or of punctuation."""


class Token(NamedTuple):
    """One token, and where it is in the text."""

    kind: TokenKind
    text: str
    start: int
    end: int


_LETTER = r"A-Za-z_\x80-\xff"
_SCANNER = re.compile(
    rf"""
      (?P<space>[ \t\n\r\f]+ | --[^\n\r]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]++|\\.|'')*+')
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']++|'')*+')
    | (?P<quoted>(?:[uU]&)?"(?:[^"]++|"")*+")
    | (?P<dollar>\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$)
    | (?P<parameter>\$[0-9]+(?![{_LETTER}0-9$]))
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![{_LETTER}0-9.$]))
    | (?P<word>[{_LETTER}][{_LETTER}0-9$]*)
    | (?P<symbol>[-+*/<>=~!@\#%^&|`?:;,.()\[\]])
    """,
    re.X | re.S,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def tokens_of(sql: bytes) -> list[Token]:
    """Return the tokens of `sql`; comments and space are left out.

    Raises:
        AmbiguousError: it does not surely have one reading.
    """
    text = sql.decode("latin-1")
    found: list[Token] = []
    at, size = 0, len(text)
    was_string = ""
    while at < size:
        match = _SCANNER.match(text, at)
        if match is None:
            raise AmbiguousError(f"byte {ord(text[at]):#04x} of a statement begins no token")
        kind, end = str(match.lastgroup), match.end()
        if kind == "comment":
            end = _comment_end(text, end)
        elif kind == "dollar":
            end = _dollar_end(text, match[0], end)
        if kind not in ("space", "comment"):
            _refuse_continuation(was_string, kind, text[at])
            was_string = kind if kind in ("escaped", "string") else ""
            found.append(_token(kind, text[at:end], at, end))
        at = end
    return found


def _token(kind: str, text: str, start: int, end: int) -> Token:
    if kind == "word":
        return Token(TokenKind.WORD, text.translate(_LOWER), start, end)
    if kind == "quoted":
        # An escape could spell any name.
        name = text[1:-1].replace('""', '"') if text[0] == '"' else "\\"
        return Token(TokenKind.QUOTED, name, start, end)
    if kind == "symbol":
        return Token(TokenKind.SYMBOL, text, start, end)
    return Token(TokenKind.LITERAL, text, start, end)


def _refuse_continuation(before: str, kind: str, first: str) -> None:
    # A string may go on after a line break, and keeps the escapes of its beginning; whether it
    # does depends on what is between. Nobody writes both forms side by side.
    if before and kind in ("escaped", "string") and ("escaped" in (before, kind) or first != "'"):
        raise AmbiguousError("a string with escapes is beside another string")


def _comment_end(text: str, at: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, at)
        if edge is None:
            raise AmbiguousError("a comment does not end")
        depth += 1 if edge[0] == "/*" else -1
        if depth > MAX_DEPTH:
            raise AmbiguousError(f"comments nest deeper than {MAX_DEPTH}")
        at = edge.end()
    return at


def _dollar_end(text: str, quote: str, at: int) -> int:
    end = text.find(quote, at)
    if end < 0:
        raise AmbiguousError("a dollar-quoted string does not end")
    return end + len(quote)
