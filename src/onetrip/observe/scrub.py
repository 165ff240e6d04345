"""Takes what may identify a person, or open a door, out of a text that leaves the installation."""

from __future__ import annotations

import ipaddress
import re

REMOVED = "[removed]"

MAX_TEXT = 1000
"""Characters kept of one text."""

_SECRETS = re.compile(
    r"(?i)\b(authorization|cookie|password|passwd|pwd|secret|token|api[_-]?key|dsn)\b"
    r"(['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic)\s+)?[^\s,;'\"]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s,;'\"]{8,}")
_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@]+@")
_QUERY = re.compile(r"\?[^\s'\"#]+")
_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,255}\.[A-Za-z]{2,24}")
_ADDRESS = re.compile(
    r"(?i)(?<![\w.:])(?:[0-9a-f]{0,4}:[0-9a-f:.]+|[0-9]+(?:\.[0-9]+){3})(?:%\w+)?"
)


def scrub(text: str) -> str:
    """Return `text` without credentials, query strings, e-mail and network addresses."""
    text = text[:MAX_TEXT]
    text = _USER.sub(rf"\1{REMOVED}@", text)
    text = _SECRETS.sub(rf"\1\2{REMOVED}", text)
    text = _BEARER.sub(rf"\1 {REMOVED}", text)
    text = _QUERY.sub(f"?{REMOVED}", text)
    text = _MAIL.sub(REMOVED, text)
    return _ADDRESS.sub(_unless_other, text)


def _unless_other(found: re.Match[str]) -> str:
    """Return what stands for a network address; a time of day only looks like one."""
    try:
        ipaddress.ip_address(found[0].rstrip(":."))
    except ValueError:
        return found[0]
    return REMOVED
