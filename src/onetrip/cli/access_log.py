"""Access logs of other proxies, read for what advice needs: which request, and how long it took.

Understood are the Common and Combined Log Format, also with times after them, and JSON lines under
the names that nginx, Apache, Caddy, HAProxy and Traefik logs usually have. Pure but for
`lines_of`. A line that is not understood is counted and left out; queries are cut off before
anything is passed on, because they hold what people type.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from onetrip.model.access import ServedRequest

MAX_LINE = 64 * 1024
"""Longest line read, bytes; a longer one is left out."""

IDLE = 1.0
"""Seconds without a line after which a reader is told so: relays count in seconds, too."""

_COMBINED = re.compile(
    r'(?:(?P<host>\S+) )?\S+ \S+ \S+ \[(?P<at>[^\]]{1,64})\] "(?P<request>[^"]*)" '
    r"(?P<status>\d{3}) \S+(?P<rest>.*)"
)
_DATE = "%d/%b/%Y:%H:%M:%S %z"
_QUOTED = re.compile(r'(?P<name>[a-z_]+[=:])?"(?P<value>(?:[^"\\]|\\.)*)"')
_NAMED = re.compile(r"(?<!\S)(?P<name>[a-z_]+)[=:](?P<value>[0-9.]+)(?!\S)")
_BARE = re.compile(r"(?<![^\s])(?P<value>\d+\.\d+)\s*$")

_TIMES = (
    # The nearest to "from passed on to first byte" goes first; the factor makes seconds of it.
    *(("upstream_header_time", 1.0), ("uht", 1.0), ("ttfb", 1.0), ("time_to_first_byte", 1.0)),
    *(("upstream_response_time", 1.0), ("urt", 1.0), ("OriginDuration", 1e-9)),
    *(("duration_ms", 1e-3), ("response_time_ms", 1e-3), ("latency_ms", 1e-3)),
    *(("request_time", 1.0), ("rt", 1.0), ("duration", 1.0), ("Duration", 1e-9)),
)
_ENDS = ("msec", "ts", "time_iso8601", "@timestamp", "timestamp", "time", "time_local", "StartUTC")
_HOSTS = ("host", "http_host", "RequestHost", "server_name", "vhost")
_METHODS = ("method", "request_method", "RequestMethod")
_PATHS = ("uri", "request_uri", "path", "url", "RequestPath")
_STATUSES = ("status", "status_code", "DownstreamStatus")


def read_line(line: str, host: str = "") -> ServedRequest | None:
    """Return the request that a line tells of, or None.

    Args:
        host: of requests whose line has none.
    """
    text = line.strip()
    found = _from_json(text) if text.startswith("{") else _from_text(text)
    if found is None:
        return None
    method, target, status = found["method"], found["path"], found["status"]
    path = "/" + target.partition("://")[2].partition("/")[2] if "://" in target else target
    named = (found["host"] or host).lower()
    if not path.startswith("/") or not re.fullmatch(r"[A-Z]{1,16}", method) or not named:
        return None
    if not 100 <= status <= 599 or len(path) > 1024 or len(named) > 260:
        return None
    return ServedRequest(
        named, method, path.partition("?")[0], status, found["duration"], found["ended_at"]
    )


def lines_of(descriptor: int) -> Iterator[str | None]:
    """Yield the lines of a file or a pipe as they come; None where none came for a while."""
    kept, is_skipping = b"", False
    while True:
        if not select.select([descriptor], [], [], IDLE)[0]:
            yield None
            continue
        chunk = os.read(descriptor, MAX_LINE)
        if not chunk:
            break
        *whole, kept = (kept + chunk).split(b"\n")
        for line in whole:
            if not is_skipping:
                yield line.decode("utf-8", "replace")
            is_skipping = False
        if len(kept) > MAX_LINE:
            kept, is_skipping = b"", True
            yield ""  # counted as one that was not understood
    if kept and not is_skipping:
        yield kept.decode("utf-8", "replace")


def _from_text(text: str) -> dict[str, Any] | None:
    match = _COMBINED.fullmatch(text)
    if match is None:
        return None
    method, _, rest = match["request"].partition(" ")
    # What quotes hold (referrer, user agent) comes from strangers, unless the log gives it a name.
    after = _QUOTED.sub(_named_only, match["rest"])
    named = {found["name"]: found["value"] for found in _NAMED.finditer(after)}
    bare = _BARE.search(after)
    duration = _duration(named)
    if duration is None and bare is not None:
        duration = _number(bare["value"])
    return {
        "host": match["host"] or "",
        "method": method,
        "path": rest.rpartition(" ")[0] if " HTTP/" in rest else rest,
        "status": int(match["status"]),
        "duration": duration,
        "ended_at": _instant(match["at"]),
    }


def _named_only(quoted: re.Match[str]) -> str:
    is_figure = quoted["name"] and re.fullmatch(r"[0-9.]+", quoted["value"])
    return f" {quoted['name']}{quoted['value']} " if is_figure else " "


def _from_json(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    inner = told.get("request")
    if isinstance(inner, dict):  # Caddy
        told = {**told, **inner}
    elif isinstance(inner, str):
        method, _, rest = inner.partition(" ")
        told = {"method": method, "path": rest.partition(" ")[0], **told}
    status = _number(_first(told, _STATUSES))
    if status is None:
        return None
    return {
        "host": str(_first(told, _HOSTS) or ""),
        "method": str(_first(told, _METHODS) or ""),
        "path": str(_first(told, _PATHS) or ""),
        "status": int(status),
        "duration": _duration(told),
        "ended_at": _instant(_first(told, _ENDS)),
    }


def _first(told: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((told[name] for name in names if told.get(name) not in (None, "", "-")), None)


def _duration(told: Mapping[str, Any]) -> float | None:
    for name, factor in _TIMES:
        value = told.get(name)
        if isinstance(value, str):
            # nginx lists the attempts: "0.002, 0.105"; the last one answered.
            value = re.split(r"[,:] *", value.strip())[-1]
        found = _number(value)
        if found is not None:
            return found * factor
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) and 0 <= found < 1e18 else None


def _instant(value: Any) -> float | None:
    """Return Unix time, s, of a number of s, ISO 8601 or a log's own date; None of others."""
    number = _number(value)
    if number is not None:
        return number if number < 1e11 else None
    try:
        is_log = isinstance(value, str) and "/" in value
        at = datetime.strptime(value, _DATE) if is_log else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None
