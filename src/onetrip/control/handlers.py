"""The handlers of the admin API, over a `NodeView`.

Every handler reads the view, converts (`control/convert`) and encodes; what clients send is
checked in `control/requests`, who may call in `control/guard`. Refusals are raised, and become
replies in `control/problems`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from onetrip.control import certificates, convert, cursors, document, relays, requests, schemas
from onetrip.control.about import HealthBody
from onetrip.control.advice import advice_body
from onetrip.control.api_versions import PAGED_PROJECTS, behaves
from onetrip.control.distributions import (
    DistributionsBody,
    RouteSpread,
    distribution_row,
    spreads,
)
from onetrip.control.operations import DEFAULT_ROWS, MAX_EVENTS, Call
from onetrip.control.problems import problem_kind
from onetrip.control.processes import DrainBody, UpgradeBody
from onetrip.control.projects import ProjectsBody, promise_of
from onetrip.control.purging import PurgeBody, purge_of
from onetrip.control.responses import reply
from onetrip.control.route_advice import RouteAdvisor
from onetrip.control.served import ServedBody, served_of
from onetrip.control.summary import status_body
from onetrip.control.view import NodeView
from onetrip.control.whatif import what_if_body
from onetrip.model.catalog import Project
from onetrip.model.measure import Arm
from onetrip.model.placement import Decision, WhatIf
from onetrip.model.status import LatencySummary
from onetrip.model.topology import RegionId

Row = TypeVar("Row", Decision, LatencySummary, RouteSpread)


class Handlers:
    """The handlers; see each one's schema in `control/schemas`.

    Args:
        wall: Unix time, s.
        changing: held by what changes the node, so that one change is made at a time.
    """

    def __init__(self, view: NodeView, wall: Callable[[], float], changing: asyncio.Lock) -> None:
        self._view = view
        self._wall = wall
        self._changing = changing

    async def healthz(self, call: Call) -> web.Response:
        """Tell that the node answers; nothing else, because it needs no token."""
        return reply(HealthBody("ok"))

    async def metrics(self, call: Call) -> web.Response:
        """Export the metrics in the Prometheus text format."""
        body = generate_latest(self._view.metrics.exported)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, call: Call) -> web.StreamResponse:
        """Describe the API; a client that has the description already is told so."""
        return document.respond(call.request)

    async def problem_kind(self, call: Call) -> web.Response:
        """Explain a type of problem document."""
        return reply(problem_kind(call.request.match_info["kind"]))

    async def status(self, call: Call) -> web.Response:
        """Describe the node and its cluster at a glance."""
        return reply(status_body(self._view, self._wall()))

    async def regions(self, call: Call) -> web.Response:
        """List the regions, with liveness and the backends nearest to each."""
        view = self._view
        peers = {peer.region: peer for peer in view.peers()}
        rtts = view.rtt_rows()
        backends = convert.nearest_backends(rtts, view.anycast)
        instances = convert.instance_counts(view.catalog, rtts, view.region)
        rows = [
            convert.region_row(
                region,
                own=view.region,
                peer=peers.get(region.id),
                backends=backends.get(region.id, []),
                is_draining=region.id in view.draining,
                instances=instances.get(region.id, (0, 0)),
            )
            for region in view.topology.regions.values()
        ]
        return reply(schemas.RegionsBody(rows))

    async def rtts(self, call: Call) -> web.Response:
        """List every RTT estimate."""
        view = self._view
        rows = convert.rtt_rows(view.rtt_rows(), self._order(), view.anycast)
        return reply(schemas.RttsBody(rows))

    async def projects(self, call: Call) -> web.Response:
        """List the projects, with what became of their routes."""
        catalog, own = self._view.catalog, dict[str, list[Decision]]()
        limit, last = requests.limit_of(call.query, *call.operation.rows), None
        if behaves(PAGED_PROJECTS):
            last = cursors.project_of(call.query)
        else:
            limit = len(catalog.projects)
        names = list(catalog.projects)
        start = names.index(last) + 1 if last is not None and last in catalog.projects else 0
        page = names[start : start + limit]
        for decision in self._view.decisions(None):
            own.setdefault(decision.key.environment.project, []).append(decision)
        rows = [
            convert.project_row(catalog.projects[name], catalog, own.get(name, ())) for name in page
        ]
        next = page[-1] if start + limit < len(names) else None
        return reply(ProjectsBody(rows, len(names), next))

    async def explain(self, call: Call) -> web.Response:
        """List the explain records of a project, filtered by edge, route and environment."""
        query = call.query
        project = self._find(call)
        self._check_filters(project, query)
        found = (d for d in self._view.decisions(project.name) if _is_wanted(d, query))
        page, total, next = self._page(call, found)
        rows = [convert.decision_body(each, _capacity(project, each)) for each in page]
        return reply(schemas.ExplainBody(project.name, total, rows, next, promise_of(project)))

    async def what_if(self, call: Call) -> web.Response:
        """Tell what the toggle would do with each route of a project, ranked, and in total."""
        query = call.query
        project = self._find(call)
        limit = requests.limit_of(query, *call.operation.rows)
        start = cursors.number_of(query) or 0
        self._check_filters(project, query)
        found = (row for row in self._view.what_if(project.name) if _is_wanted(row, query))
        mode = project.policy.mode.value
        return reply(what_if_body(project.name, mode, found, self._order(), limit, start))

    async def history(self, call: Call) -> web.Response:
        """List the latency history of each route and edge of a project."""
        name = self._find(call).name
        found = list(self._view.history(name).items())[:DEFAULT_ROWS]
        rows = [convert.series_row(key, edge, points) for (key, edge), points in found]
        return reply(schemas.HistoryBody(name, rows))

    async def distributions(self, call: Call) -> web.Response:
        """Tell how the latencies of each route of a project spread."""
        query, project = call.query, self._find(call)
        self._check_filters(project, query)
        latencies = (r for r in self._view.latencies(project.name) if _is_wanted(r, query))
        decisions = (d for d in self._view.decisions(project.name) if _is_wanted(d, query))
        page, total, next = self._page(call, spreads(latencies, decisions))
        rows = [distribution_row(each) for each in page]
        return reply(DistributionsBody(project.name, total, rows, next))

    async def advise(self, call: Call) -> web.Response:
        """Tell where each route of all projects, or of one, should run."""
        view, project = self._view, call.query.get("project")
        if project is not None:
            requests.project_of(view.catalog, project, "project")
        limit = requests.limit_of(call.query, *call.operation.rows)
        start = cursors.number_of(call.query) or 0
        names = [project] if project is not None else list(view.catalog.projects)
        advisor = RouteAdvisor(view.catalog, self._order(), is_advising=view.is_advising)
        found = [row for name in names for row in view.what_if(name)]
        explained = (row for name in names for row in view.decisions(name))
        return reply(advisor.body(found, explained, project, limit, start))

    async def advise_replicas(self, call: Call) -> web.Response:
        """Tell where the next replicas, or the primary, of each backend should be."""
        project = call.query.get("project")
        if project is not None:
            requests.project_of(self._view.catalog, project, "project")
        return reply(advice_body(await self._view.advise_replicas(project)))

    async def latencies(self, call: Call) -> web.Response:
        """List the latency of each route, edge and arm."""
        query = call.query
        project = query.get("project")
        if project is not None:
            requests.project_of(self._view.catalog, project, "project")
        arms = list(Arm)
        page, total, next = self._page(
            call, self._view.latencies(project), lambda row: arms.index(row.arm)
        )
        rows = [convert.latency_row(latency) for latency in page]
        return reply(schemas.LatenciesBody(total, rows, next))

    async def events(self, call: Call) -> web.Response:
        """List the latest events, newest first."""
        limit = requests.limit_of(call.query, *call.operation.rows)
        before = cursors.number_of(call.query)
        kept = self._view.events(MAX_EVENTS)
        found = [event for event in kept if before is None or event.id < before]
        rows = [convert.event_row(event) for event in found[:limit]]
        return reply(schemas.EventsBody(rows, str(rows[-1].id) if len(found) > limit else None))

    async def certificates(self, call: Call) -> web.Response:
        """List the certificates that clients get, and those still to come."""
        rows = [certificates.certificate_row(row) for row in self._view.certificates()]
        return reply(certificates.CertificatesBody(rows))

    async def relays(self, call: Call) -> web.Response:
        """List the database relays of the node's region, and what was learned from them."""
        return reply(relays.RelaysBody([relays.relay_row(row) for row in self._view.relays()]))

    async def take_flips(self, call: Call) -> web.Response:
        """Take what a database relay counted in the last interval."""
        self._view.take_flips(relays.report_of(call.body, self._view.catalog))
        return web.Response(status=204)

    async def take_requests(self, call: Call) -> web.Response:
        """Learn from requests that another proxy served."""
        found = self._view.take_requests(served_of(call.body))
        return reply(ServedBody(found.taken, found.unknown))

    async def purge(self, call: Call) -> web.Response:
        """Forget kept responses of a project at this node."""
        order = purge_of(call.body, self._find(call).name)
        body = PurgeBody(self._view.region, await self._view.purge(order))
        call.subject, call.after = order.project, body
        return reply(body)

    async def drain(self, call: Call) -> web.Response:
        """Drain the node's own region, or end its drain."""
        order = requests.parse(call.body, requests.DrainOrder)
        view = self._view
        if call.is_dry_run:
            own = {view.region}
            return self._reply_drain(view.draining | own if order.draining else view.draining - own)
        call.subject, call.before, call.after = view.region, self._is_draining(), order.draining
        async with self._changing:
            await view.set_draining(order.draining)
        return self._reply_drain(view.draining)

    async def reload(self, call: Call) -> web.Response:
        """Read the configuration again."""
        requests.parse(call.body or b"{}", requests.Nothing)
        if call.is_dry_run:
            return reply(schemas.ReloadBody(await self._view.check()))
        async with self._changing:
            detail = await self._view.reload()
        call.subject, call.after = self._view.region, detail
        return reply(schemas.ReloadBody(detail))

    async def upgrade(self, call: Call) -> web.Response:
        """Start a successor, and answer once it serves."""
        requests.parse(call.body or b"{}", requests.Nothing)
        body = UpgradeBody(*await self._view.upgrade())
        call.subject, call.after = self._view.region, body
        return reply(body)

    def _reply_drain(self, draining: frozenset[RegionId]) -> web.Response:
        own, regions = self._view.region, self._view.topology.regions
        names = list[str](region for region in regions if region in draining)
        return reply(DrainBody(own, own in draining, names))

    def _is_draining(self) -> bool:
        return self._view.region in self._view.draining

    def _order(self) -> convert.RegionOrder:
        return convert.RegionOrder(self._view.topology.regions)

    def _find(self, call: Call) -> Project:
        return requests.project_of(self._view.catalog, call.request.match_info["name"])

    def _page(
        self, call: Call, found: Iterable[Row], rank: Callable[[Row], int] = lambda row: 0
    ) -> tuple[list[Row], int, str | None]:
        """Return the page that is asked for, the number of all rows, and the next page's cursor.

        Args:
            rank: orders rows of one route and edge.
        """
        limit, order = requests.limit_of(call.query, *call.operation.rows), self._order()
        rows = sorted(found, key=lambda row: (order.route(row.key, row.edge), rank(row)))
        start = 0
        if (last := cursors.route_of(call.query)) is not None:
            places = [(order.route(row.key, row.edge), rank(row)) for row in rows]
            start = bisect_right(places, (order.route(*last[:2]), last[2]))
        page = rows[start : start + limit]
        if start + limit >= len(rows):
            return page, len(rows), None
        return page, len(rows), cursors.after_route((page[-1].key, page[-1].edge, rank(page[-1])))

    def _check_filters(self, project: Project, query: dict[str, str]) -> None:
        known = {
            "edge": list[str](self._view.topology.regions),
            "environment": list(project.environments),
            "method": ["read", "write"],
        }
        for field, choice in known.items():
            if (value := query.get(field)) is not None and value not in choice:
                raise requests.outside(field, value, f"one of {', '.join(choice)}")


def _is_wanted(row: Decision | WhatIf | LatencySummary, query: dict[str, str]) -> bool:
    key = row.key
    facts = {
        "edge": row.edge,
        "route": key.route,
        "environment": key.environment.environment,
        "method": key.method.value,
    }
    return all(query.get(name, value) == value for name, value in facts.items())


def _capacity(project: Project, decision: Decision) -> int | None:
    # A peer with an older configuration may tell of an environment that is gone here.
    found = project.environments.get(decision.key.environment.environment)
    return found.capacity if found is not None else None
