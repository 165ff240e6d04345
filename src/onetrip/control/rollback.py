"""Bodies of the admin API about the versions of a project's override."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from onetrip.control.versions import Version


class VersionRow(Struct, frozen=True):
    """An override as it was; what is null was as the configuration says.

    Attributes:
        version: grows with every change of the project, in every region.
        origin: region whose node took the change.
        at: when this node heard of it, Unix time, s.
        hint: "" was no pin, whatever the configuration says.
    """

    version: int
    origin: str
    at: float
    mode: str | None
    hint: str | None
    control: float | None
    explore: float | None
    share: float | None = None


class VersionsBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/versions`, newest first.

    Attributes:
        next: `cursor` of the next page, null on the last one.
    """

    project: str
    versions: list[VersionRow]
    next: str | None


class RollbackOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/projects/{name}/rollback`.

    Attributes:
        version: the one to put in force again; 0 is the configuration alone.
    """

    version: Annotated[int, Meta(ge=0, le=2**53)]


def version_row(version: Version) -> VersionRow:
    """Describe a version."""
    change = version.change
    return VersionRow(
        version=version.version,
        origin=version.origin,
        at=version.at,
        mode=change.mode.value if change.mode else None,
        hint=change.hint,
        control=change.control_ratio,
        explore=change.explore_ratio,
        share=change.share,
    )
