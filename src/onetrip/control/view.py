"""What the admin API needs from a running node, as a protocol.

The composition root (`app/node`) implements it over the real parts; the tests implement it over
invented figures. The API holds no state of its own, so a view is the whole of what it can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from onetrip.model.access import ServedRequest, Taken
from onetrip.model.advice import BackendAdvice
from onetrip.model.catalog import Catalog, Policy
from onetrip.model.edge import Purge
from onetrip.model.measure import RouteKey, RttEstimate, Target
from onetrip.model.placement import Decision, PlacementSnapshot, WhatIf
from onetrip.model.relay import FlipReport, RelayStatus
from onetrip.model.resource import Resource
from onetrip.model.status import (
    CertificateStatus,
    EndpointStatus,
    EnvoyStatus,
    Event,
    LatencyPoint,
    LatencySummary,
    PeerStatus,
    PolicyChange,
    Suspicion,
    WorkerStatus,
)
from onetrip.model.topology import RegionId, Topology
from onetrip.model.webhook import Delivery, WebhookStatus
from onetrip.observe.metrics import Metrics
from onetrip.release.catalog import Known
from onetrip.release.moment import Author


class ReleaseView(Protocol):
    """What was declared at run time, and how to declare more."""

    @property
    def known(self) -> Known:
        """What is in force: plans are made against it."""

    @property
    def max_assets(self) -> int:
        """Largest bundle of files taken, bytes."""

    def author(self, name: str) -> Author:
        """Return the author of a change that is made at this node now."""

    async def commit(self, rows: Sequence[Resource]) -> None:
        """Keep rows, then put them in force: all of them or none.

        Raises:
            ApiError: an upgrade is in progress.
            StoreError: they cannot be kept.
        """

    async def keep_assets(self, data: bytes) -> KeptAssets:
        """Keep a bundle of files.

        Raises:
            ApiError: it is none, or too large.
        """


class KeptAssets(Protocol):
    """A bundle of files that a node has."""

    @property
    def digest(self) -> str:
        """Its name."""

    @property
    def files(self) -> int:
        """How many it has."""

    @property
    def size(self) -> int:
        """Of all files, bytes."""


class NodeView(Protocol):
    """One running node as the control plane sees it; every read is cheap and never blocks."""

    @property
    def region(self) -> RegionId:
        """The node's own region."""

    @property
    def started_at(self) -> float:
        """Unix time of the start, s."""

    @property
    def topology(self) -> Topology:
        """Every region of the cluster."""

    @property
    def catalog(self) -> Catalog:
        """Every project and backend, with the policies in force."""

    @property
    def snapshot(self) -> PlacementSnapshot:
        """The placements that this node's request path reads now."""

    @property
    def metrics(self) -> Metrics:
        """The node's metrics; the API exports their registry."""

    @property
    def releases(self) -> ReleaseView:
        """Deployments, domains and bindings that were declared at run time."""

    @property
    def anycast(self) -> frozenset[str]:
        """Backends that are answered in more than one place: near every region that asks."""

    @property
    def is_advising(self) -> bool:
        """Whether the node takes no traffic, and only measures and advises."""

    def rtt_rows(self) -> Mapping[RegionId, Mapping[Target, RttEstimate]]:
        """Return the RTT estimates of each source region known to this node."""

    def peers(self) -> list[PeerStatus]:
        """Return every other node of the cluster."""

    def suspicions(self) -> list[Suspicion]:
        """Return the nodes whose RTTs are not believed."""

    def store_problem(self) -> str:
        """Return why the last change could not be written to disk, "" if it was."""

    def decisions(self, project: str | None) -> list[Decision]:
        """Return the explain records of all edges known here, of one project or of all."""

    def what_if(self, project: str) -> list[WhatIf]:
        """Return what the toggle would do with each route of a project, at all edges known here."""

    def latencies(self, project: str | None) -> list[LatencySummary]:
        """Return the latency of each route, edge and arm, of one project or of all."""

    async def advise_replicas(self, project: str | None) -> list[BackendAdvice]:
        """Return where the data of each backend should be, for one project's traffic or all."""

    def history(self, project: str) -> dict[tuple[RouteKey, RegionId], list[LatencyPoint]]:
        """Return the latency history of each route and edge of a project, oldest first."""

    def events(self, limit: int) -> list[Event]:
        """Return at most `limit` events, newest first."""

    def events_after(self, id: int) -> tuple[bool, list[Event]]:
        """Return the events after an id, oldest first, and whether some of them may be gone."""

    async def next_event(self) -> None:
        """Wait until something happens."""

    def nats_problem(self) -> str:
        """Return why the cluster is not shared over NATS now; "" while it is, or is not to be."""

    def certificates(self) -> list[CertificateStatus]:
        """Return every certificate that clients of this node get, and those still to come."""

    async def change_policy(self, project: str, change: PolicyChange) -> Policy:
        """Apply a policy change durably and live; return the policy in force afterwards.

        Raises:
            ApiError: the change cannot be applied; nothing was changed.
        """

    async def replace_policy(self, project: str, change: PolicyChange) -> Policy:
        """As `change_policy`, but everything changed before goes back to the configuration."""

    def preview_policy(self, project: str, change: PolicyChange, *, is_whole: bool) -> Policy:
        """Return the policy that `change_policy` or `replace_policy` would leave in force.

        Raises:
            ApiError: the change cannot be applied.
        """

    async def check(self) -> str:
        """Read the configuration, apply nothing, and return what `reload` would do.

        Raises:
            ConfigError: it cannot be used.
        """

    async def reload(self) -> str:
        """Read the configuration again and apply it; return a one-line summary.

        Raises:
            ConfigError: it cannot be used; the old one keeps running.
        """

    async def purge(self, order: Purge) -> int:
        """Forget responses that this node keeps; return how many there were."""

    def workers(self) -> list[WorkerStatus]:
        """Return the processes that serve requests, where they are not this one."""

    def troubles(self) -> list[str]:
        """Return what is wrong with where instances are found, in words."""

    def envoys(self) -> list[EnvoyStatus] | None:
        """Return the Envoys that serve requests; None where the node does."""

    async def upgrade(self) -> tuple[int, str]:
        """Start a successor and hand over to it; return its process id and version.

        Raises:
            ApiError: it did not get ready; this node goes on.
        """

    def take_flips(self, report: FlipReport) -> None:
        """Take what a database relay of this region counted.

        Raises:
            OnetripError: kind OVERLOADED, more relays than are followed.
        """

    def take_requests(self, told: Sequence[ServedRequest]) -> Taken:
        """Learn from requests that another proxy of this region served.

        Raises:
            ApiError: the node takes requests itself.
        """

    def replicas(self) -> list[EndpointStatus]:
        """Return the endpoints of the backends whose replication is watched."""

    def relays(self) -> list[RelayStatus]:
        """Return the database relays of this node's region."""

    def webhooks(self) -> list[WebhookStatus]:
        """Return every receiver of this node's events."""

    def webhook_deliveries(self, name: str) -> list[Delivery]:
        """Return the latest attempts at a receiver, newest first.

        Raises:
            ApiError: there is none of this name.
        """

    async def test_webhook(self, name: str) -> Delivery:
        """Send a receiver a message now.

        Raises:
            ApiError: there is none of this name.
        """

    @property
    def draining(self) -> frozenset[RegionId]:
        """Regions that take no new work while another one can."""

    async def set_draining(self, is_draining: bool) -> None:
        """Drain this node's region, or end its drain; it lasts until the node restarts."""
