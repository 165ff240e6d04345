"""What an edge may answer by itself: files of a deployment, and responses it keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DEFAULT_CACHE_CONTROL = b"no-cache"
"""Of a file that no rule matches: kept by the client and checked before each use, which costs a
round trip to the edge and never shows an old deployment."""


@dataclass(frozen=True, slots=True)
class CacheControlRule:
    """What Cache-Control says about the files that match.

    Attributes:
        pattern: glob over the path below the directory: `*` is anything within a segment, `**`
            anything at all, `?` one character. Without a slash it is about the name alone.
        value: of the field.
    """

    pattern: str
    value: bytes

    def compile(self) -> re.Pattern[str]:
        """Return the pattern over paths without a leading slash."""
        glob = self.pattern.removeprefix("/")
        parts = [_GLOB.get(p, re.escape(p)) for p in re.split(r"(\*\*/?|\*|\?)", glob)]
        start = "" if "/" in self.pattern else "(?:.*/)?"
        return re.compile(start + "".join(parts), re.DOTALL)


_GLOB = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Assets:
    """Files that the edge serves itself.

    Attributes:
        directory: absolute path of the folder; it may be a symbolic link that is switched.
        prefix: paths below it are looked up; the rest of the path is the file's place.
        index: name of the file that stands for a folder; "" for none.
        not_found: file that is sent with 404 when there is none; "" asks the instance.
        is_spa: navigations to paths without a file get the index of the root.
        rules: the first one that matches decides about Cache-Control.
    """

    directory: str
    prefix: str = "/"
    index: str = "index.html"
    not_found: str = ""
    is_spa: bool = False
    rules: tuple[CacheControlRule, ...] = field(default=())
