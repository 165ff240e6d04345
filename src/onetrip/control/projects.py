"""The body of the listing of projects."""

from __future__ import annotations

from msgspec import Struct

from onetrip.control.schemas import ProjectRow


class ProjectsBody(Struct, frozen=True):
    """`GET /v1/projects`, in the order of the configuration.

    Attributes:
        total: projects, listed or not.
        next: `cursor` of the next page, null on the last one.
    """

    projects: list[ProjectRow]
    total: int
    next: str | None
