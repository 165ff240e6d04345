"""Plans for what serves an environment: promote, roll out by a share, roll back."""

from __future__ import annotations

from onetrip.model.resource import Resource, ResourceKind
from onetrip.release.moment import Moment, conflict, outside
from onetrip.release.records import ReleaseRecord
from onetrip.release.status import Deployment, find_deployment

MAX_BEFORE = 20
"""Earlier deployments of an environment that a rollback without a name can go back to."""


def roll_out(moment: Moment, name: str, environment: str, id: str, share: float) -> list[Resource]:
    """Give a share of an environment's requests to a deployment; all of them make it current.

    Raises:
        ApiError: it cannot serve there.
    """
    release = moment.release(name, environment)
    if not 0 <= share <= 1:
        raise outside("share", f"{share:g}", "in 0..1")
    deployment = _servable(moment, name, environment, id)
    number = max(release.number, deployment.record.number)
    if share == 1.0:
        changed = _succeeded(release, id, number)
    elif id == release.current:
        raise conflict(f"deployment {id} is current already", "deployment", id)
    elif share == 0.0:
        changed = ReleaseRecord(release.current, "", 0.0, number, release.before, release.base)
    elif not release.current and not moment.environment(name, environment).instances:
        raise conflict(f"{environment} serves nothing yet: share must be 1", "share", f"{share:g}")
    else:
        changed = ReleaseRecord(release.current, id, share, number, release.before, release.base)
    return [moment.row(ResourceKind.RELEASE, name, environment, changed)]


def roll_back(
    moment: Moment, name: str, environment: str, id: str | None
) -> tuple[str, list[Resource]]:
    """Have an earlier deployment serve an environment again, at once.

    Args:
        id: "" for what the configuration says; None for the one before.

    Returns:
        The one that serves then, and the rows.

    Raises:
        ApiError: there is none, or it never became ready.
    """
    release = moment.release(name, environment)
    target = _one_before(moment, name, environment, release) if id is None else id
    if target:
        _servable(moment, name, environment, target)
    elif not moment.environment(name, environment).instances:
        raise conflict(f"the configuration has no instances of {environment}", "deployment", target)
    before = [each for each in release.before if each != target]
    # What is newer than the rollback's reason must not promote itself over it.
    found = moment.deployments(name)
    number = max([release.number, *(d.record.number for d in found)])
    changed = ReleaseRecord(target, "", 0.0, number, before, release.base)
    return target, [moment.row(ResourceKind.RELEASE, name, environment, changed)]


def _servable(moment: Moment, name: str, environment: str, id: str) -> Deployment:
    deployment = moment.deployment(name, id)
    if deployment.content.environment != environment:
        raise conflict(
            f"deployment {id} is for {deployment.content.environment}, not {environment}",
            "deployment",
            id,
        )
    if not deployment.is_ready:
        raise conflict(f"deployment {id} is {deployment.status.value}, not ready", "deployment", id)
    return deployment


def _one_before(moment: Moment, name: str, environment: str, release: ReleaseRecord) -> str:
    has_configured = bool(moment.environment(name, environment).instances)
    for id in release.before:
        if not id:
            if has_configured:
                return id
            continue
        found = find_deployment(moment.registry, name, id, moment.known.topology)
        if found is not None and found.is_ready:
            return id
    raise conflict(
        f"nothing served {environment} before {release.current or 'the configuration'}",
        "deployment",
        "",
    )


def _succeeded(release: ReleaseRecord, id: str, number: int) -> ReleaseRecord:
    """Return the release after `id` has become current."""
    if id == release.current:
        return ReleaseRecord(id, "", 0.0, number, release.before, release.base)
    before = [release.current, *(each for each in release.before if each != id)]
    return ReleaseRecord(id, "", 0.0, number, before[:MAX_BEFORE], release.base)
