"""The handlers of a project's policy: read it, change it, its versions, and the way back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiohttp import web

from onetrip.control import convert, cursors, requests, schemas, versions
from onetrip.control.operations import Call
from onetrip.control.problems import RefusedError
from onetrip.control.records import Records
from onetrip.control.responses import reply
from onetrip.control.rollback import RollbackOrder, VersionsBody, version_row
from onetrip.control.view import NodeView
from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Policy, Project
from onetrip.model.status import PolicyChange


class Policies:
    """The handlers.

    Args:
        records: where versions are kept.
        changing: held by what changes the node, so that one change is made at a time.
    """

    def __init__(self, view: NodeView, records: Records, changing: asyncio.Lock) -> None:
        self._view = view
        self._records = records
        self._changing = changing

    async def project(self, call: Call) -> web.Response:
        """Describe one project."""
        return self._reply(self._find(call))

    async def change_project(self, call: Call) -> web.Response:
        """Change a project's policy, live."""
        project = self._find(call)
        patch = requests.parse(call.body, requests.ProjectPatch)
        change = requests.change_of(patch, self._view.topology.regions)
        return await self._change(call, project, change, is_whole=False)

    async def versions(self, call: Call) -> web.Response:
        """List the overrides of a project that were in force, newest first."""
        name, limit = self._find(call).name, requests.limit_of(call.query, *call.operation.rows)
        before = cursors.number_of(call.query)
        found = await self._records.call(versions.page, name, limit + 1, before)
        next = str(found[limit - 1].id) if len(found) > limit else None
        return reply(VersionsBody(name, [version_row(each) for each in found[:limit]], next))

    async def rollback(self, call: Call) -> web.Response:
        """Put an earlier override in force again, as a new version."""
        project = self._find(call)
        wanted = requests.parse(call.body, RollbackOrder).version
        change = PolicyChange()
        if wanted:
            found = await self._records.call(versions.find, project.name, wanted)
            if found is None:
                raise ApiError(
                    f"no version {wanted} of {project.name} is kept",
                    field="version",
                    kind=Kind.NOT_FOUND,
                    value=str(wanted),
                )
            change = found.change
        return await self._change(call, project, change, is_whole=True)

    async def _change(
        self, call: Call, project: Project, change: PolicyChange | None, *, is_whole: bool
    ) -> web.Response:
        view, name = self._view, project.name
        async with self._changing:
            # Checked under the lock, so of two changes with one ETag the second is refused.
            self._check_precondition(call)
            if change is None:
                return self._reply(self._find(call))
            if call.is_dry_run:
                return self._reply(project, view.preview_policy(name, change, is_whole=is_whole))
            call.subject, call.before = name, self._body_of(self._find(call)).placement
            await (view.replace_policy if is_whole else view.change_policy)(name, change)
            call.after = self._body_of(self._find(call)).placement
        return self._reply(self._find(call))

    def _find(self, call: Call) -> Project:
        return requests.project_of(self._view.catalog, call.request.match_info["name"])

    def _check_precondition(self, call: Call) -> None:
        wanted = call.request.headers.get("If-Match")
        etag = convert.etag_of(self._body_of(self._find(call)))
        if wanted is not None and not requests.etag_matches(wanted, etag):
            raise RefusedError(
                412,
                "the project has changed since it was read; read it again",
                kind=Kind.CONFLICT,
                field="if-match",
            )

    def _body_of(self, project: Project) -> schemas.ProjectBody:
        return convert.project_body(project, self._view.catalog.backends)

    def _reply(self, project: Project, policy: Policy | None = None) -> web.Response:
        body = self._body_of(project if policy is None else replace(project, policy=policy))
        return reply(body, {"ETag": convert.etag_of(body)})
