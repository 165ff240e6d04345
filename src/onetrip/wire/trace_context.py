"""W3C Trace Context: the trace a request belongs to, kept across this hop or begun here.

A valid `traceparent` is passed on with a span id of our own in place of the sender's, so that what
the next hop records hangs below this one. Without a valid one a trace begins here, not sampled:
whether traces are kept is the application's decision. `tracestate` belongs to vendors; it passes
unchanged, and only beside a valid `traceparent`.

Source: W3C Trace Context, Recommendation of 23 November 2021 (sections below); the random flag and
the more liberal keys of tracestate are from Level 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_MEMBERS = 32
"""Entries of a tracestate (section 3.3.1.1); a longer one is dropped whole."""

_PARENT = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?", re.DOTALL
)
_MEMBER = re.compile(rb"([a-z0-9][a-z0-9_*/@-]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])")
SAMPLED = 0x01
"""Flag: the sender records this trace (section 3.2.2.3.1)."""

_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_KNOWN_FLAGS = 0x03
"""Sampled, and random trace id (Level 2); the others must not be passed on (section 3.2.2.5)."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that a request belongs to already.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits.
        span_id: 16 of them: the sender's span.
        flags: trace-flags to pass on.
        state: tracestate to pass on, or b"".
    """

    trace_id: bytes
    span_id: bytes
    flags: int
    state: bytes


def read_trace(parents: Sequence[bytes], states: Sequence[bytes]) -> Trace | None:
    """Return the trace that a request's fields tell, or None when they tell none that is valid.

    Args:
        parents: values of its traceparent fields; more than one is invalid.
        states: values of its tracestate fields, in order.
    """
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    if version == b"00" and more is not None:
        return None  # only later versions may be longer (section 3.2.4)
    return Trace(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS, _read_state(states))


def parent_value(trace_id: bytes, span: int, flags: int) -> bytes:
    """Return a traceparent.

    Args:
        span: span id, 64 bits; 0 is not allowed and becomes 1.
    """
    return b"00-%b-%016x-%02x" % (trace_id, span or 1, flags)


def new_trace_id(bits: int) -> bytes:
    """Return a trace id made of 128 random bits; 0 is not allowed and becomes 1."""
    return b"%032x" % (bits or 1)


def _read_state(values: Sequence[bytes]) -> bytes:
    """Return the fields as one, or b"" when any of it is not valid (section 3.3.1)."""
    members = [part.strip(b" \t") for value in values for part in value.split(b",")]
    members = [member for member in members if member]
    if len(members) > MAX_MEMBERS:
        return b""
    keys = set()
    for member in members:
        found = _MEMBER.fullmatch(member)
        if found is None or found[1] in keys:
            return b""
        keys.add(found[1])
    return b",".join(members)
