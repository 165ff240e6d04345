"""Names of deployments and branches."""

from __future__ import annotations

import re

import pytest

from onetrip.release.naming import MAX_LABEL, branch_label, deployment_id
from onetrip.release.records import Content
from support.releases import DATE

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@pytest.mark.parametrize(
    ("branch", "label"),
    [
        ("", ""),
        ("main", "main"),
        ("fix/api", "fix-api"),
        ("Fix_API--2", "fix-api-2"),
        ("--x--", "x"),
        ("0123456789", "0123456789-branch"),
        ("deadbeef00", "deadbeef00-branch"),
    ],
)
def test_branch_is_one_label(branch, label):
    assert branch_label(branch) == label


@pytest.mark.parametrize("branch", ["x" * 255, "feature/" + "long-" * 20, "日本", "/", "ß" * 100])
def test_any_branch_is_a_short_label_of_its_own(branch):
    label = branch_label(branch)
    assert LABEL.fullmatch(label)
    assert len(label) <= MAX_LABEL
    assert label != branch_label(branch + "!x")


def test_same_content_has_the_same_name_and_any_change_another():
    content = Content("production", DATE, branch="main", instances={"den": ["10.0.0.1:80"]})
    id = deployment_id("shop", content)
    assert re.fullmatch("[0-9a-f]{10}", id)
    same = Content("production", DATE, branch="main", instances={"den": ["10.0.0.1:80"]})
    assert deployment_id("shop", same) == id
    assert deployment_id("blog", content) != id
    assert deployment_id("shop", Content("production", DATE, branch="main")) != id
