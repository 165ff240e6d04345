"""Bodies of the admin API about deployments, environments, bindings and domains."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from onetrip.model.catalog import Environment
from onetrip.release.catalog import Known
from onetrip.release.naming import branch_label, host_of
from onetrip.release.records import Content, ReleaseRecord
from onetrip.release.status import Deployment

Text = Annotated[str, Meta(max_length=512)]
_SHARE = Meta(extra_json_schema={"minimum": 0, "maximum": 1})


class ProjectOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/projects`."""

    name: str


class DeploymentOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/projects/{name}/deployments`.

    Attributes:
        environment: "" lets the branch decide: production for the production branch or none.
        promote: have it serve its environment once every region has found it ready.
    """

    compatibility_date: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    environment: Annotated[str, Meta(max_length=64)] = ""
    branch: Annotated[str, Meta(max_length=255)] = ""
    commit: Annotated[str, Meta(max_length=64)] = ""
    message: Text = ""
    instances: Annotated[
        dict[str, Annotated[list[str], Meta(max_length=1000)]], Meta(max_length=400)
    ] = field(default_factory=dict)
    protocol: Annotated[str, Meta(pattern="^(http1|h2|auto)$")] = "http1"
    health_path: Annotated[str, Meta(pattern="^/[!-~]*$", max_length=1024)] | None = None
    capacity: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    assets: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] | None = None
    promote: bool = True


class CheckRow(Struct, frozen=True):
    """What a region found: `checking`, `ready` or `failed`."""

    region: str
    status: str
    detail: str


class DeploymentBody(Struct, frozen=True):
    """A deployment.

    Attributes:
        status: `checking`, `ready` or `failed`.
        hosts: its permanent host name, and its branch's while it is the newest of it.
        is_current: it serves its environment.
        share: of its environment's requests that it gets, 0-1.
        created_at: Unix time, s.
        created_by: name of the token.
    """

    id: str
    project: str
    environment: str
    branch: str
    commit: str
    message: str
    compatibility_date: str
    instances: dict[str, list[str]]
    protocol: str
    health_path: str | None
    capacity: int | None
    assets: str | None
    status: str
    checks: list[CheckRow]
    hosts: list[str]
    is_current: bool
    share: float
    created_at: float
    created_by: str
    region: str


class DeploymentsBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/deployments`, newest first.

    Attributes:
        next: `cursor` of the next page, null on the last one.
    """

    project: str
    deployments: list[DeploymentBody]
    next: str | None


class EnvironmentRelease(Struct, frozen=True):
    """What serves an environment.

    Attributes:
        deployment: name of a deployment, or the label that the configuration gives.
        candidate: deployment that gets `share` of the requests, or "".
        before: deployments that a rollback can go back to, the latest first; "" is what the
            configuration says.
    """

    name: str
    hosts: list[str]
    bindings: dict[str, str]
    deployment: str
    candidate: str
    share: float
    before: list[str]


class EnvironmentsBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/environments`."""

    project: str
    environments: list[EnvironmentRelease]


class RolloutOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`PUT /v1/projects/{name}/environments/{environment}/rollout`.

    Attributes:
        share: of the requests that the deployment gets; 1 makes it current, 0 ends the rollout.
    """

    deployment: str
    share: Annotated[float, _SHARE] = 1.0


class ReleaseRollbackOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/projects/{name}/environments/{environment}/rollback`.

    Attributes:
        deployment: the one to go back to; null for the one before, "" for what the configuration
            says.
    """

    deployment: str | None = None


class BindingOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`PUT /v1/projects/{name}/environments/{environment}/bindings/{binding}`."""

    backend: Annotated[str, Meta(min_length=1, max_length=64)]


class DomainOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/projects/{name}/domains`."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    environment: Annotated[str, Meta(max_length=64)] = "production"


class DomainRow(Struct, frozen=True):
    """A host name that leads to an environment.

    Attributes:
        is_configured: it is in the configuration, and can only be changed there.
        certificate: state of the certificate for it (as in `/v1/certificates`), or null.
    """

    host: str
    environment: str
    is_configured: bool
    certificate: str | None


class DomainsBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/domains`."""

    project: str
    domains: list[DomainRow]


class AssetsBody(Struct, frozen=True):
    """`PUT /v1/projects/{name}/assets`.

    Attributes:
        assets: names the bundle in a deployment.
        size: of all files, bytes.
    """

    assets: str
    files: int
    size: int


def content_of(order: DeploymentOrder) -> Content:
    """Return what an order is made of."""
    return Content(
        environment=order.environment,
        compatibility_date=order.compatibility_date,
        branch=order.branch,
        commit=order.commit,
        message=order.message,
        instances={region: list(found) for region, found in order.instances.items() if found},
        protocol=order.protocol,
        health_path=order.health_path,
        capacity=order.capacity,
        assets=order.assets or "",
    )


def deployment_body(
    deployment: Deployment, release: ReleaseRecord, known: Known, newest: dict[str, Deployment]
) -> DeploymentBody:
    """Describe a deployment.

    Args:
        release: what serves its environment.
        newest: the newest deployment by the label of its branch.
    """
    content, domain = deployment.content, known.terms.domain
    label = branch_label(content.branch)
    labels = [deployment.id]
    if label in newest and newest[label].id == deployment.id:
        labels.append(label)
    is_current = release.current == deployment.id
    share = 1 - release.share if is_current and release.candidate else float(is_current)
    return DeploymentBody(
        id=deployment.id,
        project=deployment.project,
        environment=content.environment,
        branch=content.branch,
        commit=content.commit,
        message=content.message,
        compatibility_date=content.compatibility_date,
        instances=dict(content.instances),
        protocol=content.protocol,
        health_path=content.health_path,
        capacity=content.capacity,
        assets=content.assets or None,
        status=deployment.status.value,
        checks=[
            CheckRow(
                region,
                "checking" if check is None else "ready" if check.is_ready else "failed",
                "" if check is None else check.detail,
            )
            for region, check in deployment.checks.items()
        ],
        hosts=[host_of(each, deployment.project, domain) for each in labels] if domain else [],
        is_current=is_current,
        share=release.share if release.candidate == deployment.id else share,
        created_at=deployment.at,
        created_by=deployment.record.created_by,
        region=deployment.origin,
    )


def environment_row(environment: Environment, release: ReleaseRecord) -> EnvironmentRelease:
    """Describe what serves an environment that is in force."""
    candidate = environment.candidate
    return EnvironmentRelease(
        name=environment.id.environment,
        hosts=list(environment.hosts),
        bindings=dict(environment.bindings) | {b: str(c) for b, c in environment.calls.items()},
        deployment=environment.deployment,
        candidate=candidate.variant if candidate is not None else "",
        share=environment.candidate_share,
        before=list(release.before),
    )
