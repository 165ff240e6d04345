"""Cache-Control, read so that a doubt makes a response less cacheable, never more.

Source: RFC 9111 section 5.2 (directives), 4.2.1 (values that contradict each other or are none
make a response stale), 1.2.2 (delta-seconds).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_DELTA = 1 << 31
"""Seconds: what larger numbers are taken for (RFC 9111 section 1.2.2)."""

_MEMBERS = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*+"|")+', re.DOTALL)
_NAME = re.compile(rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_SECONDS = re.compile(rb'=([0-9]+|"[0-9]+")[ \t]*')


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of one message.

    Attributes:
        names: lower-case names that are present, however malformed their values.
        seconds: values of those that have a number; a malformed or repeated, different one is 0.
    """

    names: frozenset[bytes] = frozenset()
    seconds: dict[bytes, int] = field(default_factory=dict)

    def __contains__(self, name: bytes) -> bool:
        return name in self.names


_TIMED = frozenset(
    b"max-age s-maxage min-fresh max-stale stale-while-revalidate stale-if-error".split()
)
NONE = Directives()


def parse_directives(value: bytes | None) -> Directives:
    """Read a Cache-Control value; several lines joined by commas, None when there is none."""
    if not value:
        return NONE
    names: set[bytes] = set()
    seconds: dict[bytes, int] = {}
    for member in _MEMBERS.findall(value):
        match = _NAME.match(member)
        if match is None:
            continue
        name = match[1].lower()
        if name in _TIMED:
            number = _seconds(member[match.end() :])
            seconds[name] = number if seconds.get(name, number) == number else 0
        names.add(name)
    return Directives(frozenset(names), seconds)


def _seconds(text: bytes) -> int:
    match = _SECONDS.fullmatch(text)
    if match is None:
        return 0
    digits = match[1].strip(b'"')
    return min(MAX_DELTA, int(digits)) if len(digits) <= 19 else MAX_DELTA
