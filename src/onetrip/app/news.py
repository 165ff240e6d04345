"""What people are told when something declared has changed: events, log lines, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from onetrip.errors import OnetripError
from onetrip.model.edge import Purge
from onetrip.model.resource import Resource, ResourceKind
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.release.records import (
    BindingRecord,
    CheckRecord,
    DeploymentRecord,
    DomainRecord,
    ReleaseRecord,
    decode,
)


class News:
    """Tells of one node's rows.

    Args:
        tell: makes an event.
        purge: forgets kept responses: those of another deployment are not to be served any more.
    """

    def __init__(
        self,
        tell: Callable[[str, str, str], None],
        purge: Callable[[Purge], Awaitable[int]],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._tell = tell
        self._purge = purge
        self._metrics = metrics
        self._log = log

    async def tell(self, rows: Sequence[Resource]) -> None:
        """Tell of rows that took effect."""
        for row in rows:
            kind, (_, project, name) = row.key.kind, row.key
            self._metrics.deployments.changes.labels(kind.value).inc()
            state = "deleted" if row.is_gone else "declared"
            self._log.info(
                "release.changed", kind=kind.value, project=project, name=name, state=state
            )
            try:
                self._tell_of(row)
            except OnetripError as error:
                self._log.warning("release.row_unreadable", reason=str(error))
            if kind is ResourceKind.RELEASE:
                await self._purge(Purge(project))

    def _tell_of(self, row: Resource) -> None:
        kind, name = row.key.kind, row.key.name
        if kind is ResourceKind.PROJECT:
            self._tell(
                "release.project_deleted" if row.is_gone else "release.project_created",
                row.key.project,
                f"by {row.origin}",
            )
        elif kind is ResourceKind.DEPLOYMENT:
            self._tell_of_deployment(row)
        elif kind is ResourceKind.CHECK:
            self._tell_of_check(row)
        elif kind is ResourceKind.RELEASE:
            self._tell_of_release(row)
        elif kind is ResourceKind.BINDING:
            backend = "" if row.is_gone else decode(row, BindingRecord).backend
            detail = f"{name}: {backend or 'as configured, or nothing'}"
            self._tell("release.binding_changed", row.key.project, f"{detail}, by {row.origin}")
        elif row.is_gone:
            self._tell("release.domain_removed", name, f"by {row.origin}")
        else:
            record = decode(row, DomainRecord)
            detail = f"to {record.project}/{record.environment}, by {row.origin}"
            self._tell("release.domain_added", name, detail)

    def _tell_of_deployment(self, row: Resource) -> None:
        subject = f"{row.key.project}/{row.key.name}"
        if row.is_gone:
            self._tell("release.deployment_deleted", subject, f"by {row.origin}")
            return
        content = decode(row, DeploymentRecord).content
        branch = f" from {content.branch}" if content.branch else ""
        detail = f"for {content.environment}{branch}, by {row.origin}"
        self._tell("release.deployment_created", subject, detail)

    def _tell_of_check(self, row: Resource) -> None:
        id, _, region = row.key.name.partition(".")
        if row.is_gone:
            return  # it is made anew
        record = decode(row, CheckRecord)
        result = "ready" if record.is_ready else "failed"
        self._metrics.deployments.checks.labels(region, result).inc()
        subject = f"{row.key.project}/{id}"
        if record.is_ready:
            self._tell("release.check_passed", subject, f"ready in {region}")
        else:
            self._tell("release.check_failed", subject, f"in {region}: {record.detail}")

    def _tell_of_release(self, row: Resource) -> None:
        subject = f"{row.key.project}/{row.key.name}"
        record = ReleaseRecord() if row.is_gone else decode(row, ReleaseRecord)
        current = record.current or "what the configuration says"
        if record.candidate:
            detail = (
                f"{record.candidate} gets {record.share:.4g} of the requests, {current} the rest"
            )
            self._tell("release.rolled_out", subject, f"{detail}, by {row.origin}")
        else:
            self._tell("release.served", subject, f"{current} serves, by {row.origin}")
