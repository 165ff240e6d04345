"""Where the requests of a route must never run: its own word, and that of the bindings it uses.

A route that declares its round trips uses the bindings that it names; any other route could use
every binding of its environment, so the words of all of them count for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from onetrip.app.named import known_region
from onetrip.app.schema_projects import BindingEntry, EnvironmentEntry, RouteEntry
from onetrip.errors import ConfigError
from onetrip.model.catalog import Project
from onetrip.model.topology import RegionId

Denied = frozenset[RegionId]


class Residency:
    """The denied regions of one environment.

    Args:
        key: where the environment stands, for error lines.

    Attributes:
        regions: all there are.
        everywhere: of requests that no declared route takes.

    Raises:
        ConfigError: a region that does not exist, or none is left.
    """

    def __init__(self, entry: EnvironmentEntry, regions: Collection[RegionId], key: str) -> None:
        self.regions = regions
        self._bindings: dict[str, Denied] = {
            name: self._denied(each.allow, each.deny, f"{key}.bindings.{name}")
            for name, each in entry.bindings.items()
            if isinstance(each, BindingEntry)
        }
        self.everywhere = self._union(self._bindings, f"{key}.bindings")

    def of(self, route: RouteEntry, key: str) -> Denied:
        """Return the denied regions of a declared route; `key` is where it stands."""
        own = self._denied(route.allow, route.deny, key)
        if route.round_trips is None:
            return self._checked(own | self.everywhere, key)
        used = [name for name, trips in route.round_trips.items() if trips > 0]
        return self._checked(own | self._union(used, key), key)

    def of_data(self, entries: Mapping[str, str | BindingEntry]) -> dict[str, Denied]:
        """Return the regions whose copies of each backend must not be read."""
        found: dict[str, Denied] = {}
        for name, denied in self._bindings.items():
            each = entries[name]
            if denied and isinstance(each, BindingEntry) and each.backend is not None:
                found[each.backend] = found.get(each.backend, frozenset()) | denied
        return found

    def _union(self, bindings: Collection[str], key: str) -> Denied:
        found = (self._bindings.get(name, frozenset()) for name in bindings)
        return self._checked(frozenset().union(*found), key)

    def _denied(self, allow: Sequence[str], deny: Sequence[str], key: str) -> Denied:
        for where, names in (("allow", allow), ("deny", deny)):
            for name in names:
                known_region(name, self.regions, f"{key}.{where}")
        return frozenset(r for r in self.regions if r in deny or (allow and r not in allow))

    def _checked(self, denied: Denied, key: str) -> Denied:
        if denied.issuperset(self.regions):
            raise ConfigError(
                f"{key}: allow and deny, those of bindings among them, leave no region"
            )
        return denied


def check_residency(project: Project, regions: Collection[RegionId], key: str) -> None:
    """Refuse a project of which some route may run nowhere; `key` is where it stands.

    Raises:
        ConfigError: the project's own allow and deny exclude what is left.
    """
    if not is_restricted(project):
        return
    permitted = [region for region in regions if project.policy.permits(region)]
    for name, environment in project.environments.items():
        for where, denied in (
            (f"{key}.environments.{name}.bindings", environment.deny),
            *(
                (f"{key}.environments.{name}.routes[{number}]", rule.deny)
                for number, rule in enumerate(environment.rules)
            ),
        ):
            if denied.issuperset(permitted):
                raise ConfigError(f"{where}: leaves no region that the project's placement permits")


def is_restricted(project: Project) -> bool:
    """Tell whether some route of a project has regions of its own."""
    return any(
        environment.deny or any(rule.deny for rule in environment.rules)
        for environment in project.environments.values()
    )
