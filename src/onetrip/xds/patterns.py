"""Route classes as regular expressions that Envoy takes (RE2: no look-ahead, whole paths).

They say what `proxy.router` says, about paths that are written in their normal form.
"""

from __future__ import annotations

import re

from onetrip.proxy.router import MAX_SEGMENTS, compile_pattern

LONG_SEGMENT = 65
"""Characters from which a segment counts as an identifier, whatever it holds."""

_LETTERS = "[A-Za-z_=~+-]"
_ANY = "[0-9A-Za-z_=~+-]"
_LEAST_MIXED = 9
"""Characters of an identifier that a digit among them tells."""


def _mixed(left: int) -> str:
    """Return what matches at least `left` characters of `_ANY` with a digit among them."""
    if left <= 1:
        return f"{_LETTERS}*[0-9]{_ANY}*"
    return f"(?:[0-9]{_ANY}{{{left - 1},}}|{_LETTERS}{_mixed(left - 1)})"


# A UUID is one of the characters that need no digit.
IDENTIFIER = (
    f"(?:[0-9]+|[0-9a-fA-F]{{12,}}|{_mixed(_LEAST_MIXED)}|{_ANY}{{25,}}|[^/]{{{LONG_SEGMENT},}})"
)


def class_regex(route: str) -> str:
    """Return what matches the paths of a learned route class, such as `/users/{id}`."""
    segments = route.split("/")[1:] if route != "/" else []
    is_cut = len(segments) > MAX_SEGMENTS and segments[-1] == "..."
    parts = [
        IDENTIFIER if segment == "{id}" else re.escape(segment)
        for segment in (segments[:-1] if is_cut else segments)
    ]
    return "".join(f"/{part}" for part in parts) + ("/+[^/].*" if is_cut else "/*")


def pattern_regex(pattern: str) -> str:
    """Return what matches the paths of a declared pattern, such as `/users/*`.

    Raises:
        ConfigError: it does not start with `/`.
    """
    return compile_pattern(pattern).pattern
