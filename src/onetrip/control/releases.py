"""The handlers of projects, deployments, environments, bindings and domains.

Each change is planned whole (`onetrip.release`), and then kept and put in force in one step; a dry
run plans and stops there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web
from msgspec import Struct

from onetrip.control import convert, cursors, requests
from onetrip.control.deployments import (
    AssetsBody,
    BindingOrder,
    DeploymentBody,
    DeploymentOrder,
    DeploymentsBody,
    DomainOrder,
    DomainRow,
    DomainsBody,
    EnvironmentRelease,
    EnvironmentsBody,
    ProjectOrder,
    ReleaseRollbackOrder,
    RolloutOrder,
    content_of,
    deployment_body,
    environment_row,
)
from onetrip.control.guard import caller
from onetrip.control.operations import Call
from onetrip.control.problems import RefusedError
from onetrip.control.responses import reply
from onetrip.control.view import NodeView
from onetrip.errors import Kind
from onetrip.model.catalog import Project
from onetrip.model.resource import Resource
from onetrip.net.names import Names
from onetrip.release import deploying, owning, releasing
from onetrip.release.catalog import catalog_in_force
from onetrip.release.moment import Moment, unknown_environment
from onetrip.release.records import ReleaseRecord
from onetrip.release.status import Deployment, newest_of_branches


class Releases:
    """The handlers.

    Args:
        changing: held by what changes the node, so that one change is made at a time.
    """

    def __init__(self, view: NodeView, changing: asyncio.Lock) -> None:
        self._view = view
        self._changing = changing

    # --- projects ---------------------------------------------------------------------------

    async def create_project(self, call: Call) -> web.Response:
        """Make a project."""
        order = requests.parse(call.body, ProjectOrder)
        async with self._changing:
            moment = self._moment()
            rows = owning.create_project(moment, order.name)
            moment = await self._commit(call, moment, rows, order.name, after=order)
        body = convert.project_body(moment.project(order.name), self._view.catalog.backends)
        return self._reply(call, body, status=201)

    async def delete_project(self, call: Call) -> web.Response:
        """Delete a project that was made through the API."""
        name = self._name(call)
        async with self._changing:
            moment = self._moment()
            await self._commit(call, moment, owning.delete_project(moment, name), name)
        return web.Response(status=204)

    # --- deployments ------------------------------------------------------------------------

    async def upload_assets(self, call: Call) -> web.Response:
        """Take a bundle of files for deployments to come."""
        self._moment().project(self._name(call))
        kept = await self._view.releases.keep_assets(call.body)
        body = AssetsBody(kept.digest, kept.files, kept.size)
        call.subject, call.after = self._name(call), body
        return reply(body)

    async def create_deployment(self, call: Call) -> web.Response:
        """Make a deployment; the same content again is the same deployment."""
        name, order = self._name(call), requests.parse(call.body, DeploymentOrder)
        async with self._changing:
            moment = self._moment()
            id, rows = deploying.create_deployment(
                moment, name, content_of(order), promotes=order.promote
            )
            moment = await self._commit(call, moment, rows, f"{name}/{id}", after=order)
            if not call.is_dry_run:
                moment = await self._promote_again(moment, name, id, order)
        is_new = any(row.version == 1 and not row.is_gone for row in rows)
        return self._reply_deployment(call, moment, id, status=201 if is_new else 200)

    async def deployments(self, call: Call) -> web.Response:
        """List the deployments of a project, newest first."""
        name, query = self._name(call), call.query
        limit = requests.limit_of(query, *call.operation.rows)
        before = cursors.number_of(query)
        moment = self._moment()
        project = moment.project(name)
        wanted = query.get("environment")
        if wanted is not None and wanted not in project.environments:
            raise unknown_environment(wanted, project)
        every = moment.deployments(name)
        found = [
            each
            for each in every
            if (before is None or each.record.number < before)
            and wanted in (None, each.content.environment)
        ]
        newest = newest_of_branches(every)
        rows = [self._describe(moment, each, newest) for each in found[:limit]]
        next = str(found[limit - 1].record.number) if len(found) > limit else None
        return reply(DeploymentsBody(name, rows, next))

    async def deployment(self, call: Call) -> web.Response:
        """Describe a deployment."""
        return self._reply_deployment(call, self._moment(), call.request.match_info["deployment"])

    async def delete_deployment(self, call: Call) -> web.Response:
        """Delete a deployment that serves nothing but its own host."""
        name, id = self._name(call), call.request.match_info["deployment"]
        async with self._changing:
            moment = self._moment()
            rows = deploying.delete_deployment(moment, name, id)
            await self._commit(call, moment, rows, f"{name}/{id}")
        return web.Response(status=204)

    # --- environments -----------------------------------------------------------------------

    async def environments(self, call: Call) -> web.Response:
        """List the environments of a project, and what serves them."""
        name, moment = self._name(call), self._moment()
        in_force = _in_force(moment, name).environments
        rows = [
            environment_row(in_force[label], _release(moment, name, label))
            for label in moment.project(name).environments
        ]
        return reply(EnvironmentsBody(name, rows))

    async def roll_out(self, call: Call) -> web.Response:
        """Give a share of an environment's requests to a deployment, or all of them."""
        order = requests.parse(call.body, RolloutOrder)
        name, environment = self._place(call)
        async with self._changing:
            moment = self._moment()
            self._check_release(call, moment)
            rows = releasing.roll_out(moment, name, environment, order.deployment, order.share)
            moment = await self._commit(call, moment, rows, f"{name}/{environment}", after=order)
        return self._reply_environment(call, moment)

    async def roll_back(self, call: Call) -> web.Response:
        """Have an earlier deployment serve an environment again, at once."""
        order = requests.parse(call.body or b"{}", ReleaseRollbackOrder)
        name, environment = self._place(call)
        async with self._changing:
            moment = self._moment()
            self._check_release(call, moment)
            target, rows = releasing.roll_back(moment, name, environment, order.deployment)
            after = ReleaseRollbackOrder(target)
            moment = await self._commit(call, moment, rows, f"{name}/{environment}", after=after)
        return self._reply_environment(call, moment)

    async def bind(self, call: Call) -> web.Response:
        """Bind a backend to an environment."""
        order = requests.parse(call.body, BindingOrder)
        return await self._bind(call, order.backend)

    async def unbind(self, call: Call) -> web.Response:
        """Take a binding away."""
        return await self._bind(call, "")

    async def _bind(self, call: Call, backend: str) -> web.Response:
        name, environment = self._place(call)
        binding = call.request.match_info["binding"]
        async with self._changing:
            moment = self._moment()
            rows = owning.bind(moment, name, environment, binding, backend)
            subject = f"{name}/{environment}.{binding}"
            moment = await self._commit(call, moment, rows, subject, after={"backend": backend})
        return self._reply_environment(call, moment)

    # --- domains ----------------------------------------------------------------------------

    async def domains(self, call: Call) -> web.Response:
        """List the host names that lead to a project."""
        return self._reply_domains(call, self._moment())

    async def add_domain(self, call: Call) -> web.Response:
        """Have a host name lead to an environment."""
        name, order = self._name(call), requests.parse(call.body, DomainOrder)
        async with self._changing:
            moment = self._moment()
            host, rows = owning.add_domain(moment, name, order.environment, order.host)
            moment = await self._commit(call, moment, rows, host, after=order)
        return self._reply_domains(call, moment, status=201 if rows else 200)

    async def remove_domain(self, call: Call) -> web.Response:
        """Take a host name away from a project."""
        name, host = self._name(call), call.request.match_info["host"]
        async with self._changing:
            moment = self._moment()
            await self._commit(call, moment, owning.remove_domain(moment, name, host), host)
        return web.Response(status=204)

    # --- parts ------------------------------------------------------------------------------

    async def _commit(
        self,
        call: Call,
        moment: Moment,
        rows: Sequence[Resource],
        subject: str,
        *,
        after: object = None,
    ) -> Moment:
        """Put rows in force, and return the moment after; of a dry run, what it would be."""
        if call.is_dry_run:
            return moment.after(rows)
        if rows:
            await self._view.releases.commit(rows)
            call.subject, call.after = subject, after
        return self._moment()

    async def _promote_again(
        self, moment: Moment, name: str, id: str, order: DeploymentOrder
    ) -> Moment:
        """Have an old deployment serve again that was asked for anew."""
        known = moment.deployment(name, id)
        environment = known.content.environment
        if not known.is_ready or not order.promote:
            return moment
        if moment.release(name, environment).current != id:
            rows = releasing.roll_out(moment, name, environment, id, 1.0)
            await self._view.releases.commit(rows)
        return self._moment()

    def _moment(self) -> Moment:
        releases = self._view.releases
        return Moment(releases.known, releases.author(caller().name))

    def _name(self, call: Call) -> str:
        return call.request.match_info["name"]

    def _place(self, call: Call) -> tuple[str, str]:
        return self._name(call), call.request.match_info["environment"]

    def _describe(
        self, moment: Moment, deployment: Deployment, newest: dict[str, Deployment]
    ) -> DeploymentBody:
        release = _release(moment, deployment.project, deployment.content.environment)
        return deployment_body(deployment, release, moment.known, newest)

    def _reply(self, call: Call, body: Struct, *, status: int = 200) -> web.Response:
        status = 200 if call.is_dry_run else status
        return reply(body, {"ETag": convert.etag_of(body)}, status=status)

    def _reply_deployment(
        self, call: Call, moment: Moment, id: str, *, status: int = 200
    ) -> web.Response:
        name = self._name(call)
        deployment = moment.deployment(name, id)
        newest = newest_of_branches(moment.deployments(name))
        body = self._describe(moment, deployment, newest)
        return self._reply(call, body, status=status)

    def _environment_row(self, moment: Moment, name: str, label: str) -> EnvironmentRelease:
        moment.environment(name, label)
        project = _in_force(moment, name)
        return environment_row(project.environments[label], _release(moment, name, label))

    def _reply_environment(self, call: Call, moment: Moment) -> web.Response:
        return self._reply(call, self._environment_row(moment, *self._place(call)))

    def _check_release(self, call: Call, moment: Moment) -> None:
        wanted = call.request.headers.get("If-Match")
        body = self._environment_row(moment, *self._place(call))
        if wanted is not None and not requests.etag_matches(wanted, convert.etag_of(body)):
            raise RefusedError(
                412,
                "the environment has changed since it was read; read it again",
                kind=Kind.CONFLICT,
                field="if-match",
            )

    def _reply_domains(self, call: Call, moment: Moment, *, status: int = 200) -> web.Response:
        name = self._name(call)
        declared = moment.project(name)
        certificates = [(Names(c.names), c.state.value) for c in self._view.certificates()]
        rows: list[DomainRow] = []
        for label, environment in _in_force(moment, name).environments.items():
            configured = declared.environments[label].hosts
            for host in environment.hosts:
                state = next((state for names, state in certificates if names.cover(host)), None)
                rows.append(DomainRow(host, label, host in configured, state))
        return reply(DomainsBody(name, rows), status=200 if call.is_dry_run else status)


def _in_force(moment: Moment, name: str) -> Project:
    """Return a project with everything that was declared about it."""
    declared = moment.project(name)
    project = catalog_in_force(moment.known).projects.get(name, declared)
    return replace(project, environments={**declared.environments, **project.environments})


def _release(moment: Moment, name: str, label: str) -> ReleaseRecord:
    """Return what serves an environment that may be gone from the configuration."""
    is_known = label in moment.project(name).environments
    return moment.release(name, label) if is_known else ReleaseRecord()
