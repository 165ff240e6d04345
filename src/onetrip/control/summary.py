"""The node and its cluster at a glance, as `GET /v1/status` and the stream tell it."""

from __future__ import annotations

import onetrip
from onetrip.control import certificates, convert, webhook_rows
from onetrip.control.processes import envoy_rows, problems_of, worker_rows
from onetrip.control.replica_rows import problems_of as replica_problems
from onetrip.control.replica_rows import replica_rows
from onetrip.control.schemas import StatusBody
from onetrip.control.view import NodeView


def status_body(view: NodeView, now: float) -> StatusBody:
    """Describe the node at Unix time `now`, s."""
    decisions = view.decisions(None)
    peers = view.peers()
    problems = [f"region {p.region} does not answer" for p in peers if not p.is_alive]
    problems += [f"region {s.region}: {s}" for s in view.suspicions()]
    workers = worker_rows(view.workers())
    problems += [f"worker {w.index} does not serve" for w in workers if not w.is_serving]
    following = view.envoys()
    envoys = envoy_rows(following or ())
    problems += problems_of(envoys)
    if following is not None and not envoys:
        problems.append("no Envoy follows this node")
    routes = convert.status_counts(decisions)
    if lost := routes.get("unreachable"):
        problems.append(f"{lost} routes have no ready instance")
    if reason := view.store_problem():
        problems.append(reason)
    if reason := view.nats_problem():
        problems.append(f"NATS cannot be used, what is known is used on: {reason}")
    problems += certificates.problems_of(view.certificates())
    problems += webhook_rows.problems_of(view.webhooks())
    replicas = replica_rows(view.replicas())
    problems += replica_problems(replicas)
    problems += view.troubles()
    return StatusBody(
        version=onetrip.__version__,
        region=view.region,
        state="degraded" if problems else "ok",
        problems=problems,
        started_at=view.started_at,
        uptime=round(max(0.0, now - view.started_at), 3),
        catalog_version=view.catalog.version,
        snapshot_version=view.snapshot.version,
        regions=len(view.topology.regions),
        regions_alive=1 + sum(p.is_alive for p in peers),
        projects=len(view.catalog.projects),
        routes=routes,
        saving_ms=convert.mean_saving(decisions),
        workers=workers,
        envoys=envoys,
        mode="advise" if view.is_advising else "serve",
        replicas=replicas,
    )
