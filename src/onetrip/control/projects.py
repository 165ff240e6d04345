"""The body of the listing of projects, and the rows of what they are bound to."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from onetrip.control.schemas import BindingRow, ProjectRow
from onetrip.model.catalog import Backend, Environment


class ProjectsBody(Struct, frozen=True):
    """`GET /v1/projects`, in the order of the configuration.

    Attributes:
        total: projects, listed or not.
        next: `cursor` of the next page, null on the last one.
    """

    projects: list[ProjectRow]
    total: int
    next: str | None


def binding_rows(environment: Environment, backends: Mapping[str, Backend]) -> list[BindingRow]:
    """Describe the bindings of an environment: those to backends, then those to projects."""
    bound = [
        BindingRow(binding, target, backend.kind.value, str(backend.endpoint))
        for binding, target in environment.bindings.items()
        if (backend := backends.get(target)) is not None
    ]
    calls = environment.calls.items()
    return bound + [BindingRow(binding, str(called), "project", "") for binding, called in calls]
