"""What a change is planned against: everything that is in force, who changes it, and when.

Plans are pure: rows, or an `ApiError` that names the field, the value and the limit. The caller
keeps the rows, and then has them merged, so a change is made whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Environment, Project
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import RegionId
from onetrip.release.catalog import Known, base_digest, find_project
from onetrip.release.records import Record, ReleaseRecord, encode
from onetrip.release.registry import Registry
from onetrip.release.status import Deployment, deployments, find_deployment, release_of


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, and when.

    Attributes:
        origin: region whose node takes it.
        at: Unix time, s.
        name: of the caller's token.
    """

    origin: RegionId
    at: float
    name: str


class Moment:
    """What is in force while one change is planned.

    Args:
        known: what is in force.
    """

    def __init__(self, known: Known, author: Author) -> None:
        self.known = known
        self.author = author

    @property
    def registry(self) -> Registry:
        """Every row."""
        return self.known.registry

    def after(self, rows: Sequence[Resource]) -> Moment:
        """Return the moment after these rows, with nothing put in force."""
        registry = self.registry.copy()
        registry.merge(rows)
        return Moment(replace(self.known, registry=registry), self.author)

    def project(self, name: str) -> Project:
        """Return a project as it is without deployments.

        Raises:
            ApiError: kind NOT_FOUND, here and below.
        """
        project = find_project(self.known, name)
        if project is None:
            raise ApiError(
                f"no project {name[:40]!r}", field="name", kind=Kind.NOT_FOUND, value=name[:40]
            )
        return project

    def environment(self, name: str, environment: str) -> Environment:
        """Return an environment as the configuration has it."""
        project = self.project(name)
        if environment not in project.environments:
            raise unknown_environment(environment, project, Kind.NOT_FOUND)
        return project.environments[environment]

    def release(self, name: str, environment: str) -> ReleaseRecord:
        """Return what serves an environment."""
        digest = base_digest(self.environment(name, environment))
        return release_of(self.registry, name, environment, digest)

    def releases(self, project: Project) -> list[ReleaseRecord]:
        """Return what serves each environment of a project."""
        return [
            release_of(self.registry, project.name, label, base_digest(environment))
            for label, environment in project.environments.items()
        ]

    def deployment(self, name: str, id: str) -> Deployment:
        """Return a deployment of a project."""
        self.project(name)
        found = find_deployment(self.registry, name, id, self.known.topology)
        if found is None:
            raise ApiError(
                f"no deployment {id[:40]!r} of {name}",
                field="deployment",
                kind=Kind.NOT_FOUND,
                value=id[:40],
            )
        return found

    def deployments(self, name: str) -> list[Deployment]:
        """Return the deployments of a project, newest first."""
        return deployments(self.registry, name, self.known.topology)

    def row(self, kind: ResourceKind, project: str, name: str, record: Record) -> Resource:
        """Return the row that puts a record in force."""
        return self.registry.next(
            kind, project, name, encode(record), origin=self.author.origin, at=self.author.at
        )

    def gone(self, row: Resource) -> Resource:
        """Return the row that deletes what a row is about."""
        return self.registry.next(
            row.key.kind,
            row.key.project,
            row.key.name,
            b"",
            origin=self.author.origin,
            at=self.author.at,
        )


def conflict(message: str, field: str, value: str) -> ApiError:
    """Return the refusal of what is against something in force."""
    return ApiError(message, field=field, kind=Kind.CONFLICT, value=value[:80])


def outside(field: str, value: str, limit: str) -> ApiError:
    """Return the refusal of a value that is not `limit`."""
    shown = value[:80]
    return ApiError(
        f"{field} is {shown!r}; it must be {limit}", field=field, value=shown, limit=limit
    )


def unknown_environment(environment: str, project: Project, kind: Kind = Kind.INVALID) -> ApiError:
    """Return the refusal of an environment that a project does not have."""
    error = outside("environment", environment, f"one of {', '.join(project.environments)}")
    error.kind = kind
    return error
