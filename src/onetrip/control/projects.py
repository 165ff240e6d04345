"""The body of the listing of projects, and the rows of what they are bound to."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from onetrip.control.schemas import BindingRow, ProjectRow
from onetrip.model.catalog import Backend, Environment, Project


class ProjectsBody(Struct, frozen=True):
    """`GET /v1/projects`, in the order of the configuration.

    Attributes:
        total: projects, listed or not.
        next: `cursor` of the next page, null on the last one.
    """

    projects: list[ProjectRow]
    total: int
    next: str | None


def promise_of(project: Project) -> str | None:
    """Return what the clients of a project may rely on when they read, None for nothing."""
    terms = next((e.consistency for e in project.environments.values() if e.consistency), None)
    if terms is None:
        return None
    return (
        f"session: reads wait at most {terms.wait * 1e3:g} ms for an endpoint that has what their "
        "client wrote and saw, then use the primary"
    )


def binding_rows(environment: Environment, backends: Mapping[str, Backend]) -> list[BindingRow]:
    """Describe the bindings of an environment: those to backends, then those to projects."""
    bound = [
        BindingRow(binding, target, backend.kind.value, str(backend.endpoint))
        for binding, target in environment.bindings.items()
        if (backend := backends.get(target)) is not None
    ]
    calls = environment.calls.items()
    return bound + [BindingRow(binding, str(called), "project", "") for binding, called in calls]
