"""Every operation of the admin API, as one table that its routes and its document are made from.

An operation says what it takes and what it gives; `control/handlers` holds the method of the same
name that does it, `control/openapi` describes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from msgspec import Struct

from onetrip.control import deployments, schemas
from onetrip.control.about import HealthBody, OpenApiBody, ProblemKindBody
from onetrip.control.access import AuditBody, NewTokenBody, TokenOrder, TokensBody
from onetrip.control.advice import ReplicaAdviceBody
from onetrip.control.certificates import CertificatesBody
from onetrip.control.distributions import DistributionsBody
from onetrip.control.processes import DrainBody, UpgradeBody
from onetrip.control.projects import ProjectsBody
from onetrip.control.purging import PurgeBody, PurgeOrder
from onetrip.control.relays import FlipsOrder, RelaysBody
from onetrip.control.requests import DrainOrder, Nothing, ProjectPatch
from onetrip.control.rollback import RollbackOrder, VersionsBody
from onetrip.control.route_advice import RouteAdviceBody
from onetrip.control.served import MAX_TOLD, ServedBody, ServedOrder
from onetrip.control.tokens import Scope
from onetrip.control.webhook_rows import DeliveriesBody, DeliveryRow, WebhooksBody
from onetrip.control.whatif import WhatIfBody

DEFAULT_ROWS, MAX_ROWS = 2_000, 20_000
"""Rows of a listing that can grow with the number of routes; about 1 kB each."""

MAX_BODY = 64 * 1024
"""Largest request body, bytes; a project change needs about 200."""

MAX_UPLOAD = 32 * 1024 * 1024
"""Largest bundle of files, bytes; the configuration may allow less."""

DEFAULT_EVENTS, MAX_EVENTS = 100, 1_000


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address.

    Attributes:
        name: of the method of `Handlers`, and the document's operationId.
        does: what it does, one line.
        reply: its body, or None for no content (204).
        body: what a client sends; None where nothing is sent.
        query: the parameters it takes; None ignores whatever is sent.
        rows: default and largest `limit`.
        scope: what a token must permit.
        status: of a reply with a body.
        may_exist: what it makes may be there already; then, and of a dry run, the status is 200.
        statuses: refusals that not every operation of its kind makes.
        media_type: of the reply; without a `reply`, text.
        is_open: whether it needs no token.
        has_etag: whether the reply has one, and a change heeds If-Match.
        is_general: whether it tells nothing of any project, so that a project's token may use it.
        is_audited: whether the audit log has it.
        is_replayed: whether a change heeds Idempotency-Key.
        max_body: largest body taken, bytes.
        media_in: type of the body where it is no JSON.
    """

    method: str
    path: str
    name: str
    does: str
    reply: type[Struct] | None = None
    body: type[Struct] | None = None
    query: tuple[str, ...] | None = ()
    rows: tuple[int, int] = (DEFAULT_ROWS, MAX_ROWS)
    scope: Scope = Scope.READ
    status: int = 200
    may_exist: bool = False
    statuses: tuple[int, ...] = ()
    media_type: str = "application/json"
    is_open: bool = False
    has_etag: bool = False
    is_general: bool = False
    is_audited: bool = True
    is_replayed: bool = True
    max_body: int = MAX_BODY
    media_in: str = ""

    @property
    def is_change(self) -> bool:
        """Tell whether it changes something."""
        return self.method != "GET"


@dataclass(slots=True)
class Call:
    """One request for an operation, checked as far as its table row tells.

    Attributes:
        query: parameters by name, all of them known to the operation.
        body: as received; empty for what changes nothing.
        is_dry_run: whether to check and tell, and to change nothing.
        subject, before, after: what a handler tells the audit log; without a subject, nothing has
            changed.
    """

    request: web.Request
    operation: Operation
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_dry_run: bool = False
    subject: str = ""
    before: Any = None
    after: Any = None


OPERATIONS = (
    Operation(
        "GET", "/healthz", "healthz", "Tell that the node answers", HealthBody,
        query=None, is_open=True,
    ),
    Operation(
        "GET", "/metrics", "metrics", "Export the metrics in the Prometheus text format",
        query=None, media_type="text/plain",
    ),
    Operation(
        "GET", "/v1/openapi.json", "openapi", "Describe this API (OpenAPI 3.1)",
        OpenApiBody, has_etag=True, is_general=True,
    ),
    Operation(
        "GET", "/v1/problems/{kind}", "problem_kind", "Explain a type of problem document",
        ProblemKindBody, is_general=True,
    ),
    Operation(
        "GET", "/v1/status", "status", "Describe the node and its cluster at a glance",
        schemas.StatusBody,
    ),
    Operation("GET", "/v1/regions", "regions", "List the regions", schemas.RegionsBody),
    Operation("GET", "/v1/rtts", "rtts", "List every RTT estimate", schemas.RttsBody),
    Operation(
        "GET", "/v1/projects", "projects", "List the projects, with what became of their routes",
        ProjectsBody, query=("limit", "cursor"),
    ),
    Operation(
        "POST", "/v1/projects", "create_project", "Make a project", schemas.ProjectBody,
        deployments.ProjectOrder, query=("dry_run",), scope=Scope.WRITE, status=201, may_exist=True,
        statuses=(409, 503),
    ),
    Operation(
        "GET", "/v1/projects/{name}", "project", "Describe one project", schemas.ProjectBody,
        has_etag=True,
    ),
    Operation(
        "PATCH", "/v1/projects/{name}", "change_project", "Change a project's policy, live",
        schemas.ProjectBody, ProjectPatch, scope=Scope.WRITE, statuses=(409, 412, 503),
        query=("dry_run",), has_etag=True,
    ),
    Operation(
        "DELETE", "/v1/projects/{name}", "delete_project",
        "Delete a project that was made through the API, with all its deployments",
        query=("dry_run",), scope=Scope.WRITE, statuses=(409, 503),
    ),
    Operation(
        "GET", "/v1/projects/{name}/versions", "versions",
        "List the overrides of a project that were in force, newest first", VersionsBody,
        query=("limit", "cursor"), rows=(DEFAULT_EVENTS, MAX_EVENTS),
    ),
    Operation(
        "POST", "/v1/projects/{name}/rollback", "rollback",
        "Put an earlier override in force again, as a new version", schemas.ProjectBody,
        RollbackOrder, query=("dry_run",), scope=Scope.WRITE, statuses=(409, 412, 503),
        has_etag=True,
    ),
    Operation(
        "GET", "/v1/projects/{name}/explain", "explain",
        "Explain where each route of a project runs, and why", schemas.ExplainBody,
        query=("edge", "route", "environment", "method", "limit", "cursor"),
    ),
    Operation(
        "GET", "/v1/projects/{name}/whatif", "what_if",
        "Tell what the toggle would do with each route of a project, ranked, and in total",
        WhatIfBody, query=("edge", "environment", "limit", "cursor"),
    ),
    Operation(
        "GET", "/v1/projects/{name}/history", "history",
        "List the latency history of each route of a project at this node's edge",
        schemas.HistoryBody,
    ),
    Operation(
        "GET", "/v1/projects/{name}/distributions", "distributions",
        "Tell how the latencies of each route of a project spread, placed and control, and the "
        "saving between them", DistributionsBody,
        query=("edge", "route", "environment", "method", "limit", "cursor"),
    ),
    Operation(
        "PUT", "/v1/projects/{name}/assets", "upload_assets",
        "Take a bundle of files (a gzipped tar) for deployments to come", deployments.AssetsBody,
        scope=Scope.WRITE, statuses=(409, 503), is_replayed=False, max_body=MAX_UPLOAD,
        media_in="application/gzip",
    ),
    Operation(
        "GET", "/v1/projects/{name}/deployments", "deployments",
        "List the deployments of a project, newest first", deployments.DeploymentsBody,
        query=("environment", "limit", "cursor"), rows=(DEFAULT_EVENTS, MAX_EVENTS),
    ),
    Operation(
        "POST", "/v1/projects/{name}/deployments", "create_deployment",
        "Make a deployment; the same content again is the same deployment",
        deployments.DeploymentBody, deployments.DeploymentOrder, query=("dry_run",),
        scope=Scope.WRITE, status=201, may_exist=True, statuses=(409, 503),
    ),
    Operation(
        "GET", "/v1/projects/{name}/deployments/{deployment}", "deployment",
        "Describe a deployment", deployments.DeploymentBody, has_etag=True,
    ),
    Operation(
        "DELETE", "/v1/projects/{name}/deployments/{deployment}", "delete_deployment",
        "Delete a deployment that serves nothing but its own host", query=("dry_run",),
        scope=Scope.WRITE, statuses=(409, 503),
    ),
    Operation(
        "GET", "/v1/projects/{name}/environments", "environments",
        "List the environments of a project, and what serves them", deployments.EnvironmentsBody,
    ),
    Operation(
        "PUT", "/v1/projects/{name}/environments/{environment}/rollout", "roll_out",
        "Give a share of an environment's requests to a deployment, or all of them",
        deployments.EnvironmentRelease, deployments.RolloutOrder, query=("dry_run",),
        scope=Scope.WRITE, statuses=(409, 412, 503), has_etag=True,
    ),
    Operation(
        "POST", "/v1/projects/{name}/environments/{environment}/rollback", "roll_back",
        "Have an earlier deployment serve an environment again, at once",
        deployments.EnvironmentRelease, deployments.ReleaseRollbackOrder, query=("dry_run",),
        scope=Scope.WRITE, statuses=(409, 412, 503), has_etag=True,
    ),
    Operation(
        "PUT", "/v1/projects/{name}/environments/{environment}/bindings/{binding}", "bind",
        "Bind a backend to an environment", deployments.EnvironmentRelease,
        deployments.BindingOrder, query=("dry_run",), scope=Scope.WRITE, statuses=(409, 503),
    ),
    Operation(
        "DELETE", "/v1/projects/{name}/environments/{environment}/bindings/{binding}", "unbind",
        "Take a binding away from an environment", deployments.EnvironmentRelease,
        query=("dry_run",), scope=Scope.WRITE, statuses=(409, 503),
    ),
    Operation(
        "GET", "/v1/projects/{name}/domains", "domains",
        "List the host names that lead to a project", deployments.DomainsBody,
    ),
    Operation(
        "POST", "/v1/projects/{name}/domains", "add_domain",
        "Have a host name lead to an environment of a project", deployments.DomainsBody,
        deployments.DomainOrder, query=("dry_run",), scope=Scope.WRITE, status=201, may_exist=True,
        statuses=(409, 503),
    ),
    Operation(
        "DELETE", "/v1/projects/{name}/domains/{host}", "remove_domain",
        "Take a host name away from a project", query=("dry_run",), scope=Scope.WRITE,
        statuses=(503,),
    ),
    Operation(
        "GET", "/v1/advice", "advise", "Tell where each route should run, or what is missing",
        RouteAdviceBody, query=("project", "limit", "cursor"), statuses=(404,),
    ),
    Operation(
        "GET", "/v1/advice/replicas", "advise_replicas",
        "Tell where the next replicas, or the primary, of each backend should be",
        ReplicaAdviceBody, query=("project",), statuses=(404,),
    ),
    Operation(
        "GET", "/v1/latencies", "latencies", "List the latency of each route, edge and arm",
        schemas.LatenciesBody, query=("project", "limit", "cursor"), statuses=(404,),
    ),
    Operation(
        "GET", "/v1/events", "events", "List the latest events, newest first", schemas.EventsBody,
        query=("limit", "cursor"), rows=(DEFAULT_EVENTS, MAX_EVENTS),
    ),
    Operation(
        "GET", "/v1/stream", "stream", "Tell events and changes of the status as they happen",
        media_type="text/event-stream", statuses=(503,),
    ),
    Operation(
        "GET", "/v1/certificates", "certificates",
        "List the certificates that clients get, and those still to come", CertificatesBody,
    ),
    Operation(
        "GET", "/v1/relays", "relays",
        "List the database relays of the node's region, and what was learned from them", RelaysBody,
    ),
    Operation(
        "POST", "/v1/flips", "take_flips", "Take what a database relay counted in an interval",
        body=FlipsOrder, scope=Scope.OPERATE, statuses=(404, 503), is_audited=False,
        is_replayed=False,
    ),
    Operation(
        "POST", "/v1/requests", "take_requests", "Learn from requests that another proxy served",
        ServedBody, ServedOrder, scope=Scope.OPERATE, statuses=(409,), is_audited=False,
        is_replayed=False, max_body=MAX_TOLD,
    ),
    Operation(
        "GET", "/v1/webhooks", "webhooks", "List the webhooks, and how their receivers are",
        WebhooksBody,
    ),
    Operation(
        "GET", "/v1/webhooks/{webhook}/deliveries", "webhook_deliveries",
        "List the latest attempts at a webhook's receiver, newest first", DeliveriesBody,
    ),
    Operation(
        "POST", "/v1/webhooks/{webhook}/test", "test_webhook",
        "Send a webhook's receiver a message now, and tell how that went", DeliveryRow, Nothing,
        scope=Scope.OPERATE,
    ),
    Operation(
        "POST", "/v1/projects/{name}/purge", "purge",
        "Forget kept responses of a project at this node", PurgeBody, PurgeOrder,
        scope=Scope.OPERATE,
    ),
    Operation(
        "POST", "/v1/drain", "drain", "Drain the node's own region, or end its drain",
        DrainBody, DrainOrder, query=("dry_run",), scope=Scope.OPERATE, statuses=(503,),
    ),
    Operation(
        "POST", "/v1/reload", "reload", "Read the configuration again", schemas.ReloadBody, Nothing,
        query=("dry_run",), scope=Scope.OPERATE, statuses=(409, 422),
    ),
    Operation(
        "POST", "/v1/upgrade", "upgrade", "Start a successor, and answer once it serves",
        UpgradeBody, Nothing, scope=Scope.ADMIN, statuses=(409,),
    ),
    Operation("GET", "/v1/tokens", "tokens", "List the tokens", TokensBody, scope=Scope.ADMIN),
    Operation(
        "POST", "/v1/tokens", "create_token", "Make a token, and tell its secret once",
        NewTokenBody, TokenOrder, scope=Scope.ADMIN, status=201, statuses=(404, 409, 503),
        is_replayed=False,
    ),
    Operation(
        "DELETE", "/v1/tokens/{token}", "revoke_token", "Revoke a token", scope=Scope.ADMIN,
        statuses=(503,), is_replayed=False,
    ),
    Operation(
        "GET", "/v1/audit", "audit", "List the changes that were made, newest first", AuditBody,
        query=("limit", "cursor"), rows=(DEFAULT_EVENTS, MAX_EVENTS), scope=Scope.ADMIN,
    ),
)  # fmt: skip
"""The API. Rows are in the order of docs/api.md; a test keeps them equal."""
