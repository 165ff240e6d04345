"""nginx's locations as sites: which paths go to which instances, and which are files.

onetrip chooses by host and path prefix; below a prefix every request goes to the same instances.
A location that says no more than the one around it needs no site of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onetrip.cli.imports.draft import Draft, Site, Upstream
from onetrip.cli.imports.nginx_assets import Assets, is_extensions
from onetrip.cli.imports.nginx_files import Directive
from onetrip.cli.imports.nginx_passes import upstream_of
from onetrip.cli.imports.nginx_scope import Scope
from onetrip.cli.imports.report import Outcome

_PREFIX = re.compile(r"/[!-~]*")


@dataclass(slots=True)
class _Location:
    """A location: how it matches, what path, and where its requests go."""

    directive: Directive
    scope: Scope
    modifier: str
    path: str
    upstream: Upstream | None = None


@dataclass(slots=True)
class Sites:
    """Turns the locations of servers into sites of a draft.

    Args:
        folder: what relative paths are relative to.
    """

    draft: Draft
    folder: Path
    upstreams: Mapping[str, Upstream]
    body_limits: list[Directive | None] = field(default_factory=list)

    def add(self, server: Directive, scope: Scope, hosts: tuple[str, ...]) -> None:
        """Add the sites of one server; one without hosts has none, and only reports."""
        locations = list(self._locations(scope))
        if not hosts:
            return
        named = {each.path: each for each in locations if each.modifier == "@"}
        root = next((each for each in locations if each.path == "/" and not each.modifier), None)
        root = root or _Location(server, scope, "", "/")
        files = Assets(self.draft, self.folder)
        main = self._main_upstream(root, named, locations)
        if main is None:
            detail = "no instance answers its requests: onetrip serves files beside an application"
            self.draft.report.add(server.place, "server", Outcome.LEFT_OUT, detail)
            return
        self._limit(root.scope)
        site = Site(hosts[0], hosts, "/", main, server.place)
        self._fill(site, root, files, named)
        self.draft.sites.append(site)
        self._tell(root, "instances of the site")
        for each in sorted(locations, key=lambda found: len(found.path)):
            if each is not root and each.modifier != "@":
                self._add_location(each, site, files, root)

    def _locations(self, scope: Scope) -> list[_Location]:
        found = []
        for each in scope.mine("location"):
            *modifier, path = each.args or ("",)
            sign = modifier[0] if modifier else "@" * path.startswith("@")
            inner = Scope(each.block or [], scope)
            upstream = upstream_of(inner, self.upstreams, path, sign, self.draft)
            found.append(_Location(each, inner, "" if sign == "^~" else sign, path, upstream))
            found += self._locations(inner)
        return found

    def _main_upstream(
        self, root: _Location, named: Mapping[str, _Location], locations: list[_Location]
    ) -> Upstream | None:
        if root.upstream is not None:
            return root.upstream
        fallback = _fallback(root.scope)
        if fallback in named:
            self._tell(named[fallback], "instances, where no file exists")
            return named[fallback].upstream
        # Files with an API beside them: what is no file is the API's.
        if Assets(self.draft, self.folder).root_of(root.scope) is None:
            return None
        return next((each.upstream for each in locations if each.upstream is not None), None)

    def _fill(
        self, site: Site, root: _Location, files: Assets, named: Mapping[str, _Location]
    ) -> None:
        site.has_cache = files.has_cache(root.scope)
        if root.upstream is None:
            fallback = _fallback(root.scope)
            site.assets = files.of_root(root.scope, fallback in named)

    def _add_location(self, each: _Location, site: Site, files: Assets, root: _Location) -> None:
        is_static = each.upstream is None and files.is_files(each.scope)
        if each.modifier in ("~", "~*"):
            self._add_pattern(each, site, files, root)
        elif each.modifier == "=":
            if each.upstream is not None and _is_alike(each.upstream, site.upstream):
                self._tell(each, "goes where the site's requests go")
            else:
                self._leave(each, "sites are chosen by prefix, not by one path alone")
        elif not _PREFIX.fullmatch(each.path):
            self._leave(each, "not a path")
        elif each.upstream is not None:
            self._add_prefix(each, site, files)
        elif is_static:
            self._add_files(each, site, files)
        else:
            self._leave(each, "neither proxied to instances nor files; goes where / goes")

    def _add_prefix(self, each: _Location, site: Site, files: Assets) -> None:
        assert each.upstream is not None
        self._limit(each.scope)
        cache = files.has_cache(each.scope)
        if _is_alike(each.upstream, site.upstream) and cache == site.has_cache:
            if site.assets is not None:
                site.routes.append(each.path.rstrip("/") + "/**")
            self._tell(each, "goes where the site's requests go")
            return
        prefix = each.path.rstrip("/") or "/"
        place = each.directive.place
        own = Site(site.label, site.hosts, prefix, each.upstream, place, has_cache=cache)
        self.draft.sites.append(own)
        if each.path.endswith("/"):
            self._tell(each, f"path_prefix {prefix}")
        else:
            detail = f"path_prefix {prefix} takes {prefix} and what is below, not {prefix}more"
            self._tell(each, detail, Outcome.CHANGED)

    def _add_files(self, each: _Location, site: Site, files: Assets) -> None:
        if site.assets is not None and files.is_below(each.scope, each.path, site.assets):
            files.add_rules(each.scope, each.path, site.assets)
            self._tell(each, "among the site's assets")
            return
        found = files.of_prefix(each.scope, each.path)
        if found is None:
            self._leave(each, "its files are not here")
        elif site.assets is None:
            site.assets = found
            detail = "assets; the instance is asked for files that are not there"
            self._tell(each, detail, Outcome.CHANGED)
        else:
            prefix = each.path.rstrip("/")
            place = each.directive.place
            own = Site(site.label, site.hosts, prefix, site.upstream, place, assets=found)
            self.draft.sites.append(own)
            detail = f"path_prefix {prefix} with assets; the instance is asked for other files"
            self._tell(each, detail, Outcome.CHANGED)

    def _add_pattern(self, each: _Location, site: Site, files: Assets, root: _Location) -> None:
        if each.upstream is not None:
            if _is_alike(each.upstream, site.upstream):
                self._tell(each, "goes where the site's requests go")
            else:
                self._leave(each, "sites are chosen by prefix, not by a pattern")
            return
        endings = is_extensions(each.path) if files.is_files(each.scope) else []
        if endings and site.assets is not None and files.is_same_root(each.scope, root.scope):
            files.add_endings(each.scope, endings, site.assets)
            self._tell(each, "assets.cache_control")
        elif endings:
            self._leave(
                each, "assets sends every file of a folder, not some endings: declare it if it may"
            )
        else:
            self._leave(each, "sites are chosen by prefix, not by a pattern")

    def _limit(self, scope: Scope) -> None:
        self.body_limits.append(scope.find("client_max_body_size"))

    def _tell(self, each: _Location, detail: str, outcome: Outcome = Outcome.CARRIED) -> None:
        if each.directive.name == "location":
            each.directive.is_told = True
            self.draft.report.add(each.directive.place, str(each.directive), outcome, detail)

    def _leave(self, each: _Location, detail: str) -> None:
        # A pass that was read must not count as carried when its location is not.
        for inner in each.scope.own:
            if inner.name in ("proxy_pass", "grpc_pass"):
                inner.is_told = True
                self.draft.report.add(inner.place, str(inner), Outcome.LEFT_OUT, detail)
        self._tell(each, detail, Outcome.LEFT_OUT)


def _is_alike(one: Upstream, other: Upstream) -> bool:
    return (
        [address for address, _ in one.addresses] == [address for address, _ in other.addresses]
        and one.protocol == other.protocol
        and one.capacity == other.capacity
    )


def _fallback(scope: Scope) -> str:
    found = scope.find("try_files")
    return found.args[-1] if found is not None and found.args else ""
