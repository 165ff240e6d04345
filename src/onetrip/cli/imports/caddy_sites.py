"""The ends of Caddy's routes as sites: instances by path prefix, files beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onetrip.cli.imports.caddy_handlers import State
from onetrip.cli.imports.caddyfile import AT
from onetrip.cli.imports.draft import Draft, Site, Upstream
from onetrip.cli.imports.report import Outcome, Place

_PREFIX = re.compile(r"/[!-~]*")


@dataclass(slots=True)
class Ended:
    """A handler that answers, and what is known of its requests.

    Attributes:
        upstream: where they go, or None for files.
        health: path that probes request.
        options: what `file_server` says.
    """

    state: State
    place: Place
    upstream: Upstream | None = None
    health: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def add_sites(draft: Draft, ended: Iterable[Ended], names: tuple[str, ...]) -> None:
    """Add the sites of a configuration.

    Args:
        names: hosts of those that have none.
    """
    groups: dict[tuple[str, ...], list[Ended]] = {}
    for each in ended:
        groups.setdefault(each.state.hosts or names, []).append(each)
    for hosts, group in groups.items():
        usable = tuple(host for host in hosts if re.fullmatch(r"(\*\.)?[A-Za-z0-9_.-]+", host))
        for host in set(hosts) - set(usable):
            draft.report.add(group[0].place, host, Outcome.LEFT_OUT, "is no host name")
        if usable:
            _Group(draft, usable, group).add()
        elif not hosts:
            detail = "a site needs the names of its hosts: give --host NAME"
            draft.report.add(group[0].place, "site", Outcome.LEFT_OUT, detail)


@dataclass(slots=True)
class _Group:
    draft: Draft
    hosts: tuple[str, ...]
    ended: list[Ended]

    def add(self) -> None:
        found = self._reached()
        proxied = [each for each in found if each.upstream is not None]
        files = [each for each in found if each.upstream is None]
        main = next((each for each in proxied if not each.state.path), None)
        root = next((each for each in files if not each.state.path), None)
        behind = main or (proxied[0] if proxied and root is not None else None)
        if not proxied:
            detail = "no instance answers: onetrip serves files beside an application"
            self.draft.report.add(files[0].place, "file_server", Outcome.LEFT_OUT, detail)
            return
        site = None
        if behind is not None and behind.upstream is not None:
            site = self._site("/", behind, behind.upstream)
            self.draft.sites.append(site)
        if root is not None and site is not None:
            self._root(root, site, proxied)
        for each in proxied:
            if each is not behind or each.state.path:
                self._prefix(each, site)
        for each in files:
            if each is not root:
                self._folder(each, site)

    def _reached(self) -> list[Ended]:
        """Return the ends that requests reach: nothing comes past one for every path."""
        found: list[Ended] = []
        for each in self.ended:
            if any(not one.state.path for one in found):
                kind = "reverse_proxy" if each.upstream is not None else "file_server"
                detail = "an earlier handler answers every request of the site"
                self.draft.report.add(each.place, kind, Outcome.LEFT_OUT, detail)
            else:
                found.append(each)
        return found

    def _site(self, prefix: str, each: Ended, upstream: Upstream) -> Site:
        self._tell_carried(each, prefix)
        site = Site(self.hosts[0], self.hosts, prefix, upstream, each.place)
        health = each.health or ""
        site.health_path = health if _PREFIX.fullmatch(health) else None
        return site

    def _tell_carried(self, each: Ended, prefix: str) -> None:
        detail = "instances" if prefix == "/" else f"path_prefix {prefix}"
        self.draft.report.add(each.place, "reverse_proxy", Outcome.CARRIED, detail)

    def _prefix(self, each: Ended, site: Site | None) -> None:
        assert each.upstream is not None
        prefix = self._prefix_of(each)
        if prefix is None:
            return
        if site is not None and each.upstream.addresses == site.upstream.addresses:
            if site.assets is not None:
                site.routes.append(f"{prefix}/**")
            self._tell_carried(each, prefix)
            return
        self.draft.sites.append(self._site(prefix, each, each.upstream))

    def _prefix_of(self, each: Ended) -> str | None:
        path = each.state.path
        prefix = path.rstrip("*").rstrip("/")
        tell = self.draft.report.add
        if not path.endswith("*"):
            tell(each.place, path, Outcome.LEFT_OUT, "sites are chosen by prefix, not by one path")
            return None
        if not path.endswith("/*"):
            detail = f"path_prefix {prefix} takes {prefix} and what is below, not {prefix}more"
            tell(each.place, path, Outcome.CHANGED, detail)
        return prefix

    def _root(self, each: Ended, site: Site, proxied: list[Ended]) -> None:
        assets = self._assets(each, "")
        if assets is None:
            return
        site.assets = assets
        fallback = each.state.tried[-1] if each.state.tried else ""
        if re.fullmatch(r"/[\w.-]+\.html?", fallback):
            assets["spa"] = True
            detail = "assets.spa: navigations get the index, other requests go to the instance"
            self.draft.report.add(each.place, "try_files", Outcome.CHANGED, detail)
        elif fallback:
            detail = f"assets has no fallback {fallback}"
            self.draft.report.add(each.place, "try_files", Outcome.LEFT_OUT, detail)
        site.routes += [
            f"{one.state.path.rstrip('*').rstrip('/')}/**"
            for one in proxied
            if one.state.path.endswith("*") and one.upstream == site.upstream
        ]

    def _folder(self, each: Ended, site: Site | None) -> None:
        prefix = self._prefix_of(each)
        assets = self._assets(each, prefix) if prefix is not None else None
        if assets is None or prefix is None:
            return
        if site is None:
            detail = "no instance answers for the rest of the site"
            self.draft.report.add(each.place, "file_server", Outcome.LEFT_OUT, detail)
        elif site.assets is None:
            site.assets = assets
        else:
            own = self._site(prefix, each, site.upstream)
            own.assets = assets
            self.draft.sites.append(own)

    def _assets(self, each: Ended, prefix: str) -> dict[str, Any] | None:
        options, tell = each.options, self.draft.report.add
        root = options.get("root") or each.state.root or "."
        folder = str(root).rstrip("/")
        if prefix and each.state.strip != prefix:
            folder += prefix
        if "{" in folder or not folder.startswith("/") or not Path(folder).is_dir():
            detail = f"{folder} is no folder here: import where the files are, or add assets"
            tell(each.place, "file_server", Outcome.LEFT_OUT, detail)
            return None
        assets: dict[str, Any] = {"directory": folder, **({"prefix": prefix} if prefix else {})}
        names = options.get("index_names")
        if names:
            assets["index"] = names[0]
        if "browse" in options:
            tell(each.place, "file_server browse", Outcome.LEFT_OUT, "folders are not listed")
        for key in sorted(set(options) - {"handler", "root", "index_names", "browse", AT}):
            tell(each.place, f"file_server {key}", *_option(key, options[key]))
        detail = "assets; the instance is asked for files that are not there"
        tell(each.place, "file_server", Outcome.CHANGED, detail)
        return assets


def _option(key: str, value: Any) -> tuple[Outcome, str]:
    if key in ("precompressed", "precompressed_order"):
        return Outcome.BUILT_IN, "siblings NAME.gz, NAME.br and NAME.zst are sent"
    names = [Path(str(each)).name for each in value] if isinstance(value, list) else []
    if key == "hide" and all(name.startswith(".") or name == "Caddyfile" for name in names):
        return Outcome.BUILT_IN, "names that begin with a dot are private"
    return Outcome.LEFT_OUT, "every file of the folder is sent as it is"
