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
        is_clean: a path without a file is answered with the file that has `.html` behind it.
        is_alone: there is no instance to ask: what is no file does not exist.
    """

    directory: str
    prefix: str = "/"
    index: str = "index.html"
    not_found: str = ""
    is_spa: bool = False
    rules: tuple[CacheControlRule, ...] = field(default=())
    is_clean: bool = False
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How responses of one project are kept.

    Attributes:
        max_size: of all of them at one node, bytes.
        max_object: largest body kept, bytes.
        heuristic: share of the time since Last-Modified that counts as fresh when the response
            tells nothing; 0 keeps only what tells.
        keeps_cookies: responses with Set-Cookie may be kept.
        wait: longest wait for another request's response to the same question, s.
    """

    max_size: int = 64 * 1024 * 1024
    max_object: int = 1024 * 1024
    heuristic: float = 0.0
    keeps_cookies: bool = False
    wait: float = 5.0


@dataclass(frozen=True, slots=True)
class Purge:
    """Which kept responses of a project to forget.

    Attributes:
        scheme, authority: of their URLs; b"" for any.
        target: path and query, b"" for any.
        is_prefix: `target` is only what they begin with.
    """

    project: str
    scheme: bytes = b""
    authority: bytes = b""
    target: bytes = b""
    is_prefix: bool = False

    def covers(self, scheme: bytes, authority: bytes, target: bytes) -> bool:
        """Tell whether a response is meant."""
        if self.scheme not in (b"", scheme) or self.authority not in (b"", authority):
            return False
        if self.is_prefix or not self.target:
            return target.startswith(self.target)
        return target == self.target
