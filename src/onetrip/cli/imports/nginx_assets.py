"""nginx's files as onetrip's `assets`: root, alias, try_files, index, expires, proxy_cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetrip.cli.imports.draft import Draft
from onetrip.cli.imports.nginx_files import Directive
from onetrip.cli.imports.nginx_scope import Scope
from onetrip.cli.imports.nginx_settings import seconds
from onetrip.cli.imports.report import Outcome

_NAME = re.compile(r"[^/\x00-\x1f.][^/\x00-\x1f]*")
_ENDINGS = re.compile(r"\\\.\(?(?:\?:)?([a-z0-9|?+]+)\)?\$", re.IGNORECASE)
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_YEARS = 315_360_000
"""`expires max`, s: ten years."""

_APPS = ("proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "return", "rewrite")


def is_extensions(pattern: str) -> list[str]:
    r"""Return the endings that a pattern such as `\.(css|js|woff2?)$` means; [] for others."""
    found = _ENDINGS.search(pattern)
    if found is None or found.start() > 2:
        return []
    endings: list[str] = []
    for each in found[1].split("|"):
        if "+" in each:
            return []
        short, optional, rest = each.partition("?")
        endings += [short[:-1] + rest, short + rest] if optional else [each]
    return [each for each in endings if re.fullmatch("[a-zA-Z0-9]+", each)]


@dataclass(slots=True)
class Assets:
    """Makes `assets` entries.

    Args:
        folder: what relative paths are relative to.
    """

    draft: Draft
    folder: Path

    def root_of(self, scope: Scope) -> Directive | None:
        """Return the `root` or `alias` that holds, or None."""
        return next(scope.mine("alias"), None) or scope.find("root")

    def is_files(self, scope: Scope) -> bool:
        """Tell whether a location sends files and nothing else."""
        if any(scope.mine(*_APPS)) or self.root_of(scope) is None:
            return False
        tried = scope.find("try_files")
        return tried is None or tried.args[-1:] == ("=404",) or tried.args[-1:] == ("$uri",)

    def is_same_root(self, scope: Scope, other: Scope) -> bool:
        """Tell whether two blocks take their files from the same folder."""
        one, two = self.root_of(scope), self.root_of(other)
        return one is not None and two is not None and (one.name, one.args) == (two.name, two.args)

    def is_below(self, scope: Scope, path: str, assets: dict[str, Any]) -> bool:
        """Tell whether a location's files are among those of `assets` already."""
        return "prefix" not in assets and self._directory(scope, path) == (
            assets["directory"] + path.rstrip("/")
        )

    def of_root(self, scope: Scope, has_fallback: bool) -> dict[str, Any] | None:
        """Return the assets of a site whose `/` is files, with instances behind them or not."""
        tried, root = scope.find("try_files"), self.root_of(scope)
        if root is None:
            return None
        found = self._entry(scope, "/")
        if tried is None or found is None:
            return found
        args, tell = tried.args, self.draft.report.add
        tried.is_told = True
        if not {"$uri/", "$uri/index.html"} & set(args) and has_fallback:
            found["index"] = None
        if re.fullmatch(r"/[\w.-]+\.html?", args[-1]):
            found["spa"] = True
            found.setdefault("index", args[-1][1:])
            detail = "assets.spa: navigations get the index, other requests go to the instance"
            tell(tried.place, str(tried), Outcome.CHANGED, detail)
        elif has_fallback:
            odd = [arg for arg in args[:-1] if arg not in ("$uri", "$uri/", "$uri/index.html")]
            outcome = Outcome.LEFT_OUT if odd else Outcome.CARRIED
            detail = f"assets does not try {' '.join(odd)}" if odd else "assets, then the instance"
            tell(tried.place, str(tried), outcome, detail)
        elif args[-1].startswith("=") or args[-1] == "$uri":
            tell(tried.place, str(tried), Outcome.CHANGED, "without a file the instance answers")
        else:
            tell(tried.place, str(tried), Outcome.LEFT_OUT, f"assets has no fallback {args[-1]}")
        return found

    def of_prefix(self, scope: Scope, path: str) -> dict[str, Any] | None:
        """Return the assets of a location's files, or None when they are not here."""
        found = self._entry(scope, path)
        tried = next(scope.mine("try_files"), None)
        if tried is not None and found is not None:
            tried.is_told = True
            detail = "without a file the instance answers"
            self.draft.report.add(tried.place, str(tried), Outcome.CHANGED, detail)
        return found

    def add_rules(self, scope: Scope, path: str, assets: dict[str, Any]) -> None:
        """Add what a location says about caching to assets that have its files."""
        self._add_caching(scope, path.rstrip("/") + "/**", assets)

    def add_endings(self, scope: Scope, endings: list[str], assets: dict[str, Any]) -> None:
        """Add what a location says about files with these endings."""
        for each in endings:
            self._add_caching(scope, f"*.{each}", assets)

    def has_cache(self, scope: Scope) -> bool:
        """Tell whether responses are kept, and report it."""
        each = scope.find("proxy_cache")
        if each is None or each.args == ("off",):
            return False
        each.is_told = True
        detail = "cache.enabled: responses are kept as their own Cache-Control allows"
        self.draft.report.add(each.place, str(each), Outcome.CHANGED, detail)
        return True

    def _directory(self, scope: Scope, path: str) -> str:
        each = self.root_of(scope)
        if each is None or not each.args:
            return ""
        place = each.args[0].rstrip("/")
        if each.name == "root" and path != "/":
            place += path.rstrip("/")
        return str(self.folder / place)

    def _entry(self, scope: Scope, path: str) -> dict[str, Any] | None:
        each = self.root_of(scope)
        assert each is not None
        directory = self._directory(scope, path)
        if "$" in directory or not Path(directory).is_dir():
            detail = f"{directory} is no folder here: import where the files are, or add assets"
            self.draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
            each.is_told = True
            return None
        found: dict[str, Any] = {"directory": directory}
        if path != "/":
            found["prefix"] = path.rstrip("/")
        self._tell_once(each, Outcome.CARRIED, "assets.directory")
        self._add_index(scope, found)
        self._add_caching(scope, "/**", found)
        return found

    def _add_index(self, scope: Scope, assets: dict[str, Any]) -> None:
        each = scope.find("index")
        if each is None or not each.args:
            return
        names = [name for name in each.args if _NAME.fullmatch(name) and not name.endswith(".php")]
        if names and names[0] != "index.html":
            assets["index"] = names[0]
        is_whole = len(names) == len(each.args) == 1
        outcome = Outcome.CARRIED if is_whole else Outcome.CHANGED
        detail = "assets.index" if is_whole else "assets.index is one name"
        self._tell_once(each, outcome, detail)

    def _add_caching(self, scope: Scope, path: str, assets: dict[str, Any]) -> None:
        value = ""
        for each in scope.find_all("expires"):
            value = _lifetime(each.args)
            self._tell_caching(each, value)
        for each in scope.find_all("add_header"):
            if len(each.args) >= 2 and each.args[0].lower() == "cache-control":
                more = each.args[1] if _VALUE.fullmatch(each.args[1]) else ""
                value = ", ".join(part for part in (value, more) if part)
                self._tell_caching(each, more)
        if value:
            rules = assets.setdefault("cache_control", [])
            # Narrower rules first: the first one that matches counts.
            rules.insert(0 if path != "/**" else len(rules), {"path": path, "value": value[:256]})

    def _tell_caching(self, each: Directive, value: str) -> None:
        outcome = Outcome.CARRIED if value else Outcome.LEFT_OUT
        self._tell_once(each, outcome, "assets.cache_control" if value else "not understood")

    def _tell_once(self, each: Directive, outcome: Outcome, detail: str) -> None:
        if not each.is_told:
            each.is_told = True
            self.draft.report.add(each.place, str(each), outcome, detail)


def _lifetime(args: tuple[str, ...]) -> str:
    """Return `expires` as a value of Cache-Control; "" for what is none."""
    if len(args) != 1:
        return ""
    if args[0] in ("epoch", "-1"):
        return "no-cache"
    if args[0] == "max":
        return f"max-age={_YEARS}"
    age = seconds(args[0])
    return f"max-age={int(age)}" if age is not None else ""
