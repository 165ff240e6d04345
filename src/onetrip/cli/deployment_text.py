"""Deployments, and what serves, as text for people."""

from __future__ import annotations

from onetrip.cli.render import DASH, instant, percent, plain, table
from onetrip.control.deployments import DeploymentBody, DeploymentsBody, EnvironmentRelease


def deployment_text(body: DeploymentBody) -> str:
    """Return a deployment, line by line."""
    lines = [
        ("deployment", body.id),
        ("status", f"{body.status}, {_serving(body)}"),
        ("environment", plain(body.environment)),
        ("branch", plain(body.branch) or DASH),
        ("commit", plain(body.commit) or DASH),
        ("message", plain(body.message) or DASH),
        ("made", f"{instant(body.created_at)} by {plain(body.created_by) or DASH}"),
        ("date", f"{body.compatibility_date} (compatibility)"),
        ("files", (body.assets or DASH)[:12]),
    ]
    lines += [
        ("instance", f"{plain(region)}  {plain(address)}")
        for region, found in body.instances.items()
        for address in found
    ]
    lines += [
        ("check", f"{plain(row.region)}  {row.status}  {plain(row.detail)}".rstrip())
        for row in body.checks
    ]
    lines += [("host", plain(host)) for host in body.hosts]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def deployments_text(body: DeploymentsBody) -> str:
    """Return the list of deployments."""
    rows = [
        (
            row.id,
            plain(row.environment),
            plain(row.branch) or DASH,
            plain(row.commit)[:10] or DASH,
            row.status,
            _serving(row),
            instant(row.created_at),
            plain(row.created_by) or DASH,
        )
        for row in body.deployments
    ]
    heads = ("DEPLOYMENT", "ENVIRONMENT", "BRANCH", "COMMIT", "STATUS", "SERVES", "MADE", "BY")
    return table(heads, rows)


def environment_text(body: EnvironmentRelease) -> str:
    """Return what serves an environment, in one line or two."""
    text = f"{plain(body.name)}  {plain(body.deployment) or 'nothing'} serves"
    if body.candidate:
        text += f" {percent(1 - body.share)}, {body.candidate} {percent(body.share)}"
    return text


def _serving(row: DeploymentBody) -> str:
    if row.is_current and row.share == 1:
        return "current"
    return percent(row.share) if row.share else "not serving"
