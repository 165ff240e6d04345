"""Server-Timing: what an application tells about its own request, read from one field value.

    Server-Timing: db;dur=2510.3;trips=11, cache;dur=1.2, app

`dur` is milliseconds. `trips` is an integer that onetrip understands: sequential round trips made
to that backend. Anything else is ignored, as the specification asks; a value that does not parse
gives nothing rather than an error, because a response is never refused over a hint.

Source: W3C Server Timing, section 4 (grammar); RFC 9110 section 5.6 for lists and quoted strings.
"""

from __future__ import annotations

import math
import re

from onetrip.model.measure import Timing

MAX_SIZE = 4096
"""Bytes of a field value read; longer ones are ignored whole."""

MAX_METRICS = 16
"""Metrics read; an application is bound to at most 8 backends."""

MAX_DURATION = 3600.0
"""Longest duration believed, s."""

MAX_TRIPS = 100_000
"""Most trips believed."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_PARAM = rb"[ \t]*;[ \t]*(" + _TOKEN + rb")[ \t]*(?:=[ \t]*(" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_METRIC = re.compile(rb"[ \t]*(" + _TOKEN + rb")((?:" + _PARAM + rb")*)[ \t]*(?:,|$)")
_PARAMS = re.compile(_PARAM)


def parse_server_timing(value: bytes) -> tuple[Timing, ...]:
    """Return the metrics of one field value, in order; () for a value that does not parse."""
    if len(value) > MAX_SIZE:
        return ()
    found: list[Timing] = []
    position = 0
    while position < len(value) and len(found) < MAX_METRICS:
        match = _METRIC.match(value, position)
        if match is None:
            return ()
        found.append(_timing(match[1].decode(), match[2]))
        position = match.end()
    return tuple(found)


def _timing(name: str, params: bytes) -> Timing:
    duration, trips = None, None
    for key, raw in _PARAMS.findall(params):
        text = raw.strip(b'"')
        # The first of a repeated parameter counts (section 4.1 of the specification).
        if key.lower() == b"dur" and duration is None:
            duration = _number(text, MAX_DURATION * 1e3)
        elif key.lower() == b"trips" and trips is None:
            trips = _number(text, MAX_TRIPS)
    return Timing(name, None if duration is None else duration / 1e3, trips)


def _number(text: bytes, limit: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= limit else None
