"""When the arms of an environment's routes have to be compared anew."""

from __future__ import annotations

from onetrip.model.catalog import Catalog, EnvironmentId


def changed_conditions(before: Catalog, after: Catalog) -> set[EnvironmentId]:
    """Return the environments in both of which something changed that a comparison rests on.

    A new deployment may have changed any route: its savings are to be proven again, by all of the
    control group. Another share mixes the arms otherwise than before: what each of them took until
    now was taken at other times of day, so it does not compare.
    """
    found: set[EnvironmentId] = set()
    for name, project in after.projects.items():
        old = before.projects.get(name)
        if old is None or old is project:
            continue
        for label, environment in project.environments.items():
            known = old.environments.get(label)
            if known is not None and (
                known.deployment != environment.deployment
                or old.policy.share != project.policy.share
            ):
                found.add(environment.id)
    return found
