"""The policies in force: what the configuration says, overridden by what the API was told.

The latest statement wins. An override is made against a digest of the configured placement; when
the configuration's own placement changes, the override no longer matches and is ignored. Overrides
spread between nodes as `PolicyRow`s and are kept in the node's store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from onetrip.cluster.messages import PolicyRow
from onetrip.control.store import StoredPolicy
from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Catalog, Policy
from onetrip.model.status import PolicyChange
from onetrip.model.topology import RegionId, Topology

MAX_CONTROL = 0.5
"""Largest control group: more would leave most users without the gain."""


def digest(policy: Policy) -> str:
    """Return a short digest of a configured policy, equal on every node and in every process."""
    parts = [
        policy.mode.value,
        policy.hint or "",
        *(repr(x) for x in (policy.control_ratio, policy.explore_ratio)),
        *(repr(x) for x in (policy.least_gain, policy.dwell, policy.explore_writes)),
        ",".join(sorted(policy.allow)),
        ",".join(sorted(policy.deny)),
        policy.forwarding.value,
        # Only where it was stated: an override made before it could be still fits.
        *([f"share {policy.share!r}"] if policy.share != 1.0 else []),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def apply(policy: Policy, change: PolicyChange, topology: Topology) -> Policy:
    """Return `policy` with the fields of `change`.

    Raises:
        ApiError: a value out of range, or a region that does not exist or is not permitted.
    """
    if change.mode is not None:
        policy = replace(policy, mode=change.mode)
    if change.control_ratio is not None:
        limit = MAX_CONTROL
        policy = replace(policy, control_ratio=_ratio("control", change.control_ratio, limit))
    if change.explore_ratio is not None:
        policy = replace(policy, explore_ratio=_ratio("explore", change.explore_ratio, 1.0))
    if change.share is not None:
        policy = replace(policy, share=_ratio("share", change.share, 1.0))
    if change.hint is not None:
        policy = replace(policy, hint=_hint(change.hint, policy, topology))
    return policy


def effective(base: Catalog, rows: Mapping[str, PolicyRow], topology: Topology) -> Catalog:
    """Return the configured catalog with every override that still applies."""
    projects = dict(base.projects)
    for name, row in rows.items():
        project = projects.get(name)
        if project is None or digest(project.policy) != row.base:
            continue
        try:
            policy = apply(project.policy, change_of(row), topology)
        except ApiError:
            # Its region left the configuration; the configured policy stands.
            continue
        projects[name] = replace(project, policy=policy)
    return replace(base, projects=projects, version=base.version + 1)


def next_row(
    known: PolicyRow | None,
    project: str,
    base: str,
    change: PolicyChange,
    origin: RegionId,
    is_whole: bool = False,
) -> PolicyRow:
    """Return the override that follows `known` when `change` is made at `origin`.

    Args:
        is_whole: whether nothing of `known` stays.
    """
    keep = known if known is not None and known.base == base and not is_whole else None
    old = change_of(keep) if keep is not None else PolicyChange()

    return PolicyRow(
        project=project,
        version=(known.version if known is not None else 0) + 1,
        origin=origin,
        base=base,
        mode=change.mode or old.mode,
        hint=old.hint if change.hint is None else change.hint,
        control=old.control_ratio if change.control_ratio is None else change.control_ratio,
        explore=old.explore_ratio if change.explore_ratio is None else change.explore_ratio,
        share=old.share if change.share is None else change.share,
    )


def change_of(row: PolicyRow) -> PolicyChange:
    """Return the change that an override makes."""
    return PolicyChange(row.mode, row.hint, row.control, row.explore, row.share)


def stored(row: PolicyRow) -> StoredPolicy:
    """Return the override as the store keeps it."""
    return StoredPolicy(row.project, change_of(row), row.base, row.version, row.origin)


def unstored(kept: StoredPolicy) -> PolicyRow:
    """Return a kept override as it spreads."""
    change = kept.change
    return PolicyRow(
        project=kept.project,
        version=kept.version,
        origin=kept.origin,
        base=kept.base_digest,
        mode=change.mode,
        hint=change.hint,
        control=change.control_ratio,
        explore=change.explore_ratio,
        share=change.share,
    )


def _ratio(field: str, value: float, limit: float) -> float:
    if not 0 <= value <= limit:
        raise ApiError(f"{field} of {value:g} is not in 0..{limit:g}", field=field)
    return value


def _hint(text: str, policy: Policy, topology: Topology) -> RegionId | None:
    if text == "":
        return None
    region = RegionId(text)
    if region not in topology.regions:
        known = ", ".join(topology.regions)
        raise ApiError(f"hint {text!r} is not one of the regions {known}", field="hint")
    if not policy.permits(region):
        message = f"hint {text!r} is not permitted by allow/deny"
        raise ApiError(message, field="hint", kind=Kind.CONFLICT)
    return region
