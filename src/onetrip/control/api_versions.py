"""Dated versions of the API: a client says which one it was made for, and keeps its behaviour.

Without the header a client gets the latest version. What changed in an incompatible way since the
first one is listed here; additions (operations, fields, optional parameters) are in all of them.
"""

from __future__ import annotations

from contextvars import ContextVar

from onetrip.errors import ApiError
from onetrip.model.compatibility import FIRST_DATE, Change, has

HEADER = "Onetrip-Api-Version"

PAGED_PROJECTS = Change(
    "2026-11-25",
    "paged_projects",
    "GET /v1/projects tells at most `limit` projects, and `next` where there are more; before, all "
    "of them at once",
)

CHANGES = (PAGED_PROJECTS,)
"""Oldest first."""

VERSIONS = (FIRST_DATE, *sorted({change.date for change in CHANGES}))
"""Every version, oldest first."""

LATEST = VERSIONS[-1]

VERSION: ContextVar[str] = ContextVar("api_version", default=LATEST)
"""Version of the request that a task answers."""


def version_of(text: str | None) -> str:
    """Return the version that a request asks for.

    Raises:
        ApiError: there is no such version.
    """
    if text is None:
        return LATEST
    if text not in VERSIONS:
        limit = f"one of {', '.join(VERSIONS)}"
        raise ApiError(
            f"{HEADER} is {text[:40]!r}; it must be {limit}",
            field=HEADER.lower(),
            value=text[:40],
            limit=limit,
        )
    return text


def behaves(change: Change) -> bool:
    """Tell whether the request that this task answers gets a changed behaviour."""
    return has(VERSION.get(), change)
