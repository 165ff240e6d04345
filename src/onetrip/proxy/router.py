"""Which environment a request is for, and which route class it belongs to.

Host and path choose the environment. Inside it the path is reduced to a *route class*, the unit
that is learned and placed: a declared pattern, or a template such as `/users/{id}` made by
replacing segments that look like identifiers. Classes are bounded: a scanner that asks for random
paths must not be able to use up the classes of the real ones, so a template becomes a class only
after a request to it succeeded (`Routing.settle`).

Matching works on a normal form of the path (RFC 3986 sections 6.2.2.2 and 5.2.4). A path that
differs from its normal form in a way that servers read differently (dot segments, encoded slashes
or dots, empty segments, backslashes) never matches an `is_local` rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from onetrip.errors import ConfigError
from onetrip.model.catalog import Catalog, Environment, EnvironmentId, RouteRule
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.place.arms import unit_hash

MAX_CLASSES = 100
"""Automatic route classes per environment; further templates share `OTHER`."""

OTHER = "other"

MAX_CACHED = 4096
"""Paths remembered; with `MAX_CACHED_PATH` it bounds the cache to about 3 MB."""

MAX_CACHED_PATH = 256
MAX_SEGMENTS = 12
"""Segments of a template; deeper paths are cut there, ending in `/...`."""

_READS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_AMBIGUOUS = re.compile(rb"//|/\.{1,2}(?:/|$)|\\|%(?:2[eEfF]|5[cC])|;")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_IDENTIFIER = re.compile(
    rf"[0-9]+|{_UUID}|[0-9a-fA-F]{{12,}}|(?=[^0-9]*[0-9])[0-9A-Za-z_=~+-]{{9,}}|[0-9A-Za-z_=~+-]{{25,}}"
)


@dataclass(frozen=True, slots=True)
class Match:
    """What a request was recognised as.

    Attributes:
        rule: the declared rule its path matched, or None.
        label: value of the `route` label of metrics.
        is_tentative: the class of `key` is not established yet; `Routing.settle` decides.
        asks_edge: `Environment.asks_edge`, at hand for every request.
        candidate: the same request at the deployment that is being rolled out; `split` decides.
        is_trial: it runs at such a deployment. It tells nothing about the environment's routes.
    """

    environment: Environment
    rule: RouteRule | None
    key: RouteKey
    label: str = ""
    is_tentative: bool = False
    asks_edge: bool = False
    candidate: Match | None = None
    is_trial: bool = False

    def split(self, client: str, variant: str | None) -> Match:
        """Return this or the candidate.

        Args:
            client: address of who asks: a client stays with one version, and with the candidate
                while its share grows.
            variant: what the edge has chosen for a request that it forwards; None at the edge.
        """
        candidate = self.candidate
        if candidate is None:
            return self
        other = candidate.environment.variant
        if variant is not None:
            return candidate if variant == other else self
        share = self.environment.candidate_share
        return candidate if unit_hash(f"{other}{client}".encode()) < share else self


class Routing:
    """An immutable table of hosts and paths, with bounded caches inside.

    Build one per catalog with `Routing.build`.
    """

    def __init__(
        self,
        exact: Mapping[str, tuple[_Site, ...]],
        wildcard: Mapping[str, tuple[_Site, ...]],
    ) -> None:
        self._exact = exact
        self._wildcard = wildcard
        self._cache: dict[tuple[bytes, bytes], tuple[Match, Match]] = {}

    @classmethod
    def build(cls, catalog: Catalog) -> Routing:
        """Return the routing of `catalog`.

        Raises:
            ConfigError: two environments share a host and path prefix, or a rule is not usable.
        """
        tables: tuple[dict[str, list[_Site]], dict[str, list[_Site]]] = ({}, {})
        owners: dict[tuple[str, str], EnvironmentId] = {}
        classes: dict[EnvironmentId, set[str]] = {}
        for environment in catalog.sites():
            if not environment.hosts:
                continue
            site = _Site(environment, classes.setdefault(environment.id, set()))
            for host in environment.hosts:
                owner = owners.setdefault((host, site.prefix), environment.site)
                if owner != environment.site:
                    raise ConfigError(
                        f"host {host!r} with path {site.prefix!r} belongs to both {owner} "
                        f"and {environment.site}"
                    )
                is_wildcard = host.startswith("*.")
                tables[is_wildcard].setdefault(host.removeprefix("*."), []).append(site)
        exact, wildcard = (
            {host: tuple(sorted(sites, key=_by_prefix)) for host, sites in table.items()}
            for table in tables
        )
        return cls(exact, wildcard)

    def adopt(self, previous: Routing) -> None:
        """Keep the route classes that `previous` has established: learning survives a reload."""
        known = {site.environment.id: site.classes for site in previous._all_sites()}
        for site in self._all_sites():
            for route in known.get(site.environment.id, ()):
                site.admit(route)

    @property
    def classes(self) -> list[tuple[EnvironmentId, list[str]]]:
        """The route classes that are established, by environment."""
        found = {s.environment.id: sorted(s.classes) for s in self._all_sites() if s.classes}
        return list(found.items())

    def establish(self, environment: EnvironmentId, routes: Iterable[str]) -> None:
        """Establish route classes that are known from elsewhere."""
        site = self._find_site(environment)
        for route in routes if site is not None else ():
            assert site is not None
            site.admit(route)

    def admit(self, key: RouteKey) -> RouteKey:
        """Return the key to file what another process settled under; establishes its class.

        Several processes may know more classes together than one node allows.
        """
        site = self._find_site(key.environment)
        if site is None or site.knows(key.route) or site.admit(key.route):
            return key
        return RouteKey(key.environment, OTHER, key.method)

    def match(self, method: bytes, authority: bytes, target: bytes) -> Match | None:
        """Return what the request is, or None when no environment takes it.

        Args:
            authority: Host value, with or without a port.
            target: request target; its query is ignored.
        """
        path = target.partition(b"?")[0]
        cached = self._cache.get((authority, path))
        if cached is None:
            cached = self._look_up(authority, path)
            if cached is None:
                return None
        return cached[0] if method in _READS else cached[1]

    def settle(self, match: Match, status: int) -> RouteKey:
        """Return the key to file a finished exchange under, given its status.

        A tentative class is established by a response that shows the path exists.
        """
        if not match.is_tentative:
            return match.key
        key = match.key
        site = self._find_site(key.environment)
        if site is None or status in (400, 404, 405, 410, 414, 501) or not site.admit(key.route):
            return RouteKey(key.environment, OTHER, key.method)
        return key

    def _look_up(self, authority: bytes, path: bytes) -> tuple[Match, Match] | None:
        sites = self._sites(authority)
        if not sites:
            return None
        clean = normalise(path)
        for site in sites:
            if not site.covers(clean):
                continue
            found = site.classify(clean, is_ambiguous=_AMBIGUOUS.search(path) is not None)
            if not found[0].is_tentative and len(path) <= MAX_CACHED_PATH:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                self._cache[authority, path] = found
            return found
        return None

    def _sites(self, authority: bytes) -> tuple[_Site, ...]:
        host = authority.decode("latin-1").lower()
        if not host.endswith("]"):
            name, colon, port = host.rpartition(":")
            if colon and (port.isdigit() or not port):
                host = name
        host = host.strip("[]").removesuffix(".")
        sites = self._exact.get(host)
        if sites is not None:
            return sites
        return self._wildcard.get(host.partition(".")[2], ())

    def _all_sites(self) -> list[_Site]:
        return [s for t in (self._exact, self._wildcard) for sites in t.values() for s in sites]

    def _find_site(self, environment: EnvironmentId) -> _Site | None:
        return next((s for s in self._all_sites() if s.environment.id == environment), None)


class _Site:
    """One environment's rules and route classes.

    Args:
        classes: the route classes that are established, shared by the environment's variants.
    """

    def __init__(self, environment: Environment, classes: set[str]) -> None:
        self.environment = environment
        self.prefix = "/" + environment.path_prefix.strip("/")
        self.classes = classes
        rules = sorted(environment.rules, key=specificity)
        self._rules = [(compile_pattern(rule.pattern), rule) for rule in rules]

    def covers(self, path: str) -> bool:
        prefix = self.prefix
        return prefix == "/" or path == prefix or path.startswith(prefix + "/")

    def classify(self, path: str, is_ambiguous: bool) -> tuple[Match, Match]:
        for pattern, rule in self._rules:
            if pattern.fullmatch(path) and not (rule.is_local and is_ambiguous):
                return self._matches(rule.pattern, rule, False)
        route = template(path)
        if route in self.classes:
            return self._matches(route, None, False)
        if len(self.classes) >= MAX_CLASSES:
            return self._matches(OTHER, None, False)
        return self._matches(route, None, True)

    def knows(self, route: str) -> bool:
        is_declared = any(rule.pattern == route for _, rule in self._rules)
        return route == OTHER or route in self.classes or is_declared

    def admit(self, route: str) -> bool:
        if route not in self.classes:
            if len(self.classes) >= MAX_CLASSES:
                return False
            self.classes.add(route)
        return True

    def _matches(
        self, route: str, rule: RouteRule | None, is_tentative: bool
    ) -> tuple[Match, Match]:
        environment, label = self.environment, str(self.environment.id)
        asks_edge = environment.asks_edge
        other = environment.candidate
        keys = [RouteKey(environment.id, route, m) for m in (MethodClass.READ, MethodClass.WRITE)]
        read, write = (
            Match(
                environment,
                rule,
                key,
                label,
                is_tentative,
                asks_edge,
                candidate=Match(
                    other, rule, key, label, is_tentative, other.asks_edge, is_trial=True
                )
                if other is not None
                else None,
            )
            for key in keys
        )
        return read, write


def normalise(path: bytes) -> str:
    """Return the path that matching works on: decoded once, dot and empty segments resolved."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    text = path.decode("utf-8", "replace").replace("\\", "/")
    if "/." not in text and "//" not in text:
        return text
    kept: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    is_folder = text.endswith(("/", "/.", "/.."))
    return "/" + "/".join(kept) + ("/" if is_folder and kept else "")


def template(path: str) -> str:
    """Return the route class of a path: segments that look like identifiers become `{id}`."""
    segments = path.rstrip("/").split("/")[1:]
    if not segments:
        return "/"
    kept = [_segment_class(s) for s in segments[:MAX_SEGMENTS]]
    if len(segments) > MAX_SEGMENTS:
        kept.append("...")
    return "/" + "/".join(kept)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a `RouteRule.pattern`.

    Raises:
        ConfigError: it does not start with `/`.
    """
    if not pattern.startswith("/"):
        raise ConfigError(f"route pattern {pattern!r} does not start with /")
    rest = ""
    if pattern.endswith("/**"):
        pattern, rest = pattern[:-3], "(?:/.*)?"
    parts = ["[^/]+" if part == "*" else re.escape(part) for part in pattern.split("/")]
    return re.compile("/".join(parts) + rest, re.DOTALL)


def _segment_class(segment: str) -> str:
    if _IDENTIFIER.fullmatch(segment) or len(segment) > 64:
        return "{id}"
    return segment if segment.isprintable() else "{id}"


def _by_prefix(site: _Site) -> int:
    return -len(site.prefix)


def specificity(rule: RouteRule) -> tuple[bool, int, int]:
    """Most specific first: exact rest, then more segments, then fewer stars."""
    parts = rule.pattern.split("/")
    is_open = parts[-1] == "**"
    literals = sum(1 for part in parts if part not in ("*", "**"))
    return is_open, -literals, -len(parts)
