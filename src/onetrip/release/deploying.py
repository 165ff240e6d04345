"""Plans for deployments: make one, delete one, and which old ones make room."""

from __future__ import annotations

import datetime

import msgspec

from onetrip.errors import ApiError, ConfigError, Kind
from onetrip.model.catalog import Project
from onetrip.model.compatibility import check_date
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import parse_endpoint
from onetrip.release.moment import Moment, conflict, outside, unknown_environment
from onetrip.release.naming import branch_label, deployment_id
from onetrip.release.records import Content, DeploymentRecord
from onetrip.release.status import (
    PREVIEW,
    PRODUCTION,
    Deployment,
    DeploymentStatus,
    check_name,
    find_deployment,
    newest_of_branches,
)


def create_deployment(
    moment: Moment, name: str, content: Content, *, promotes: bool
) -> tuple[str, list[Resource]]:
    """Make a deployment, or have a failed one of the same content checked again.

    Args:
        content: with "" as its environment, its branch decides.

    Returns:
        Its name, and the rows; none where it exists and has not failed.

    Raises:
        ApiError: it cannot be.
    """
    project = moment.project(name)
    content = _checked(moment, project, content)
    id = deployment_id(name, content)
    known = find_deployment(moment.registry, name, id, moment.known.topology)
    if known is not None:
        failed = known.status is DeploymentStatus.FAILED
        return id, [moment.gone(row) for row in _checks(moment, known)] if failed else []
    found = moment.deployments(name)
    _check_branch(found, content)
    number = max((d.record.number for d in found), default=0) + 1
    record = DeploymentRecord(content, number, promotes, moment.author.name)
    row = moment.row(ResourceKind.DEPLOYMENT, name, id, record)
    return id, [row, *_expired(moment, project, found)]


def delete_deployment(moment: Moment, name: str, id: str) -> list[Resource]:
    """Delete a deployment that serves nothing but its own host name.

    Raises:
        ApiError: there is none, or it is in use.
    """
    project, deployment = moment.project(name), moment.deployment(name, id)
    if id in in_use(moment, project):
        raise conflict(f"deployment {id} is in use; roll back or out first", "id", id)
    return _removed(moment, deployment)


def in_use(moment: Moment, project: Project) -> set[str]:
    """Return the deployments that serve an environment of a project, or a share of it."""
    releases = moment.releases(project)
    return {id for each in releases for id in (each.current, each.candidate)} - {""}


def _checked(moment: Moment, project: Project, content: Content) -> Content:
    today = datetime.datetime.fromtimestamp(moment.author.at, datetime.UTC).date()
    check_date(content.compatibility_date, today)
    environment = content.environment
    if not environment:
        is_production = content.branch in ("", moment.known.terms.production_branch)
        environment = PRODUCTION if is_production else PREVIEW
    if environment not in project.environments:
        raise unknown_environment(environment, project)
    if not content.instances and not content.assets:
        raise ApiError("a deployment needs instances or assets", field="instances")
    for region, addresses in content.instances.items():
        if region not in moment.known.topology.regions:
            known = ", ".join(moment.known.topology.regions)
            raise outside("instances", region, f"by region: {known}")
        for number, address in enumerate(addresses):
            _check_address(moment, address, f"instances.{region}[{number}]", content.protocol)
    if content.assets and moment.known.find_assets(content.assets) is None:
        raise ApiError(
            f"assets {content.assets[:12]}… are not here; upload them first",
            field="assets",
            kind=Kind.CONFLICT,
            value=content.assets,
        )
    return msgspec.structs.replace(content, environment=environment)


def _check_address(moment: Moment, address: str, field: str, protocol: str) -> None:
    try:
        endpoint = parse_endpoint(address)
    except ConfigError as error:
        raise ApiError(f"{field}: {error}", field=field, value=address[:80]) from error
    if not moment.known.terms.permits(endpoint):
        raise ApiError(
            f"{field}: {address[:80]} is outside deployments.allow of the configuration",
            field=field,
            value=address[:80],
            limit="within deployments.allow",
        )
    for site in moment.known.base.sites():
        for instance in site.instances:
            spoken = instance.endpoint.protocol.value
            if str(instance.endpoint) == str(endpoint) and spoken != protocol:
                raise conflict(f"{field}: {address} is {spoken} elsewhere", field, address)


def _check_branch(found: list[Deployment], content: Content) -> None:
    label = branch_label(content.branch)
    for each in found if label else ():
        other = each.content.branch
        if other != content.branch and branch_label(other) == label:
            raise conflict(
                f"branch {content.branch!r} would have the host name of branch {other!r}",
                "branch",
                content.branch,
            )


def _expired(moment: Moment, project: Project, found: list[Deployment]) -> list[Resource]:
    """Return the rows that delete what is beyond the number kept, oldest first."""
    used = in_use(moment, project)
    used |= {id for release in moment.releases(project) for id in release.before[:1]}
    used |= {deployment.id for deployment in newest_of_branches(found).values()}
    spare = [d for d in found if d.id not in used]
    gone = spare[max(0, moment.known.terms.keep - 1) :]
    return [row for deployment in gone for row in _removed(moment, deployment)]


def _removed(moment: Moment, deployment: Deployment) -> list[Resource]:
    row = moment.registry.get(ResourceKind.DEPLOYMENT, deployment.project, deployment.id)
    rows = [row] if row is not None else []
    return [moment.gone(each) for each in (*rows, *_checks(moment, deployment))]


def _checks(moment: Moment, deployment: Deployment) -> list[Resource]:
    """Return the rows of what regions found."""
    names = [check_name(deployment.id, region) for region in deployment.checks]
    rows = (moment.registry.get(ResourceKind.CHECK, deployment.project, n) for n in names)
    return [row for row in rows if row is not None]
