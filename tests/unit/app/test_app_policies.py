"""The policies in force: the latest statement wins, from the file or from the API."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from onetrip.app import policies
from onetrip.app.policies import apply, digest, effective, next_row
from onetrip.errors import ApiError
from onetrip.model.catalog import Catalog, Mode, Policy, Project
from onetrip.model.status import PolicyChange
from onetrip.model.topology import Region, RegionId, Topology

DEN, BOM = RegionId("den"), RegionId("bom")
TOPOLOGY = Topology({r: Region(r, r) for r in (DEN, BOM)})
CONFIGURED = Policy(mode=Mode.OFF)
BASE = Catalog({"shop": Project("shop", CONFIGURED, {})}, {}, 3)
SMART = next_row(None, "shop", digest(CONFIGURED), PolicyChange(mode=Mode.SMART), DEN)


def policy_after(catalog: Catalog) -> Policy:
    return catalog.projects["shop"].policy


def test_override_replaces_the_configured_mode() -> None:
    found = effective(BASE, {"shop": SMART}, TOPOLOGY)
    assert policy_after(found).mode is Mode.SMART
    assert found.version > BASE.version


def test_override_is_void_once_the_file_says_something_else() -> None:
    edited = replace(CONFIGURED, control_ratio=0.2)
    base = Catalog({"shop": Project("shop", edited, {})})
    assert policy_after(effective(base, {"shop": SMART}, TOPOLOGY)) == edited


def test_override_of_an_unknown_project_is_ignored() -> None:
    row = next_row(None, "gone", "x", PolicyChange(mode=Mode.SMART), DEN)
    assert effective(BASE, {"gone": row}, TOPOLOGY).projects == BASE.projects


def test_changes_add_up_and_versions_grow() -> None:
    row = next_row(SMART, "shop", SMART.base, PolicyChange(control_ratio=0.1, hint="bom"), BOM)
    assert (row.version, row.mode, row.control, row.hint) == (2, Mode.SMART, 0.1, "bom")
    cleared = next_row(row, "shop", SMART.base, PolicyChange(hint=""), BOM)
    assert policy_after(effective(BASE, {"shop": cleared}, TOPOLOGY)).hint is None


def test_change_over_a_new_file_forgets_the_old_overrides_but_not_their_version() -> None:
    row = next_row(SMART, "shop", "other-base", PolicyChange(control_ratio=0.1), DEN)
    assert row.mode is None
    assert row.version == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (PolicyChange(hint="par"), "hint"),
        (PolicyChange(control_ratio=0.6), "control"),
        (PolicyChange(explore_ratio=-0.1), "explore"),
        (PolicyChange(control_ratio=float("nan")), "control"),
    ],
)
def test_bad_change_names_its_field(change: PolicyChange, field: str) -> None:
    with pytest.raises(ApiError) as caught:
        apply(CONFIGURED, change, TOPOLOGY)
    assert caught.value.field == field


def test_hint_against_residency_is_refused() -> None:
    with pytest.raises(ApiError, match="not permitted"):
        apply(replace(CONFIGURED, deny=frozenset({BOM})), PolicyChange(hint="bom"), TOPOLOGY)


def test_override_whose_region_left_the_file_is_ignored() -> None:
    row = next_row(None, "shop", digest(CONFIGURED), PolicyChange(hint="bom"), DEN)
    alone = Topology({DEN: Region(DEN, "Denver")})
    assert policy_after(effective(BASE, {"shop": row}, alone)) == CONFIGURED


def test_override_survives_the_store_form() -> None:
    assert policies.unstored(policies.stored(SMART)) == SMART


def test_digest_depends_on_every_field() -> None:
    variants = [
        CONFIGURED,
        replace(CONFIGURED, mode=Mode.SMART),
        replace(CONFIGURED, hint=BOM),
        replace(CONFIGURED, control_ratio=0.5),
        replace(CONFIGURED, explore_ratio=0.5),
        replace(CONFIGURED, least_gain=0.5),
        replace(CONFIGURED, explore_writes=True),
        replace(CONFIGURED, dwell=0.5),
        replace(CONFIGURED, allow=frozenset({BOM})),
        replace(CONFIGURED, deny=frozenset({BOM})),
    ]
    assert len({digest(v) for v in variants}) == len(variants)


def test_share_is_an_override_like_the_others() -> None:
    row = next_row(SMART, "shop", SMART.base, PolicyChange(share=0.25), BOM)
    found = policy_after(effective(BASE, {"shop": row}, TOPOLOGY))
    assert (found.mode, found.share, found.least_control) == (Mode.SMART, 0.25, 0.75)
    kept = policies.unstored(policies.stored(row))
    assert kept == row
    with pytest.raises(ApiError, match=r"share of 1\.5 is not in"):
        apply(CONFIGURED, PolicyChange(share=1.5), TOPOLOGY)


def test_a_row_without_a_share_is_what_older_nodes_send_and_read() -> None:
    assert b"share" not in msgspec.json.encode(SMART)
    # Overrides that were made before there were shares still fit what is configured.
    assert digest(CONFIGURED) == digest(replace(CONFIGURED, share=1.0))
    assert digest(CONFIGURED) != digest(replace(CONFIGURED, share=0.5))
