"""Rows: the newest statement counts, whatever order statements arrive in."""

from __future__ import annotations

import pytest

from onetrip.errors import OnetripError
from onetrip.model.resource import Resource, ResourceKey, ResourceKind
from onetrip.model.topology import RegionId
from onetrip.release import registry as module
from onetrip.release.registry import FORGET_AFTER, Registry


def row(name: str, version: int = 1, body: bytes = b"{}", origin: str = "den") -> Resource:
    key = ResourceKey(ResourceKind.DOMAIN, "", name)
    return Resource(key, version, RegionId(origin), 100.0, body)


def test_later_statement_replaces_an_earlier_one_and_is_news():
    registry = Registry()
    assert registry.merge([row("a")]) == [row("a")]
    assert registry.merge([row("a")]) == []
    assert registry.merge([row("a", 2, b"[]")]) == [row("a", 2, b"[]")]
    assert registry.merge([row("a")]) == []
    assert registry.of(ResourceKind.DOMAIN) == [row("a", 2, b"[]")]


def test_statements_of_one_version_are_ordered_by_region():
    one, other = row("a", origin="bom"), row("a", origin="den")
    for order in ([one, other], [other, one]):
        registry = Registry()
        registry.merge(order)
        assert registry.get(ResourceKind.DOMAIN, "", "a") == other


def test_what_is_gone_is_remembered_and_does_not_come_back():
    registry = Registry()
    registry.merge([row("a"), row("a", 2, b"")])
    assert registry.get(ResourceKind.DOMAIN, "", "a") is None
    assert registry.of(ResourceKind.DOMAIN) == []
    assert registry.merge([row("a")]) == []
    assert (
        registry.next(ResourceKind.DOMAIN, "", "a", b"{}", origin=RegionId("den"), at=1.0).version
        == 3
    )


def test_digest_is_of_what_exists():
    one, other = Registry(), Registry()
    one.merge([row("a"), row("b")])
    other.merge([row("b"), row("c"), row("a"), row("c", 2, b"")])
    assert one.digest == other.digest
    other.merge([row("a", 2)])
    assert one.digest != other.digest


def test_what_has_been_gone_for_long_is_forgotten():
    registry = Registry()
    registry.merge([row("a"), row("b", 2, b"")])
    assert registry.forgettable(100.0 + FORGET_AFTER) == []
    old = registry.forgettable(101.0 + FORGET_AFTER)
    assert [each.key.name for each in old] == ["b"]
    before = registry.digest
    registry.forget(old)
    assert (len(registry), registry.digest) == (1, before)


def test_forgetting_spares_what_was_declared_again_meanwhile():
    registry = Registry()
    registry.merge([row("a", 2, b"")])
    old = registry.forgettable(101.0 + FORGET_AFTER)
    registry.merge([row("a", 3)])
    registry.forget(old)
    assert registry.get(ResourceKind.DOMAIN, "", "a") == row("a", 3)


def test_number_of_rows_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    registry = Registry()
    registry.merge([row("a"), row("b")])
    with pytest.raises(OnetripError, match="3 rows exceed limit of 2"):
        registry.merge([row("c")])
    registry.merge([row("a", 2)])
    assert len(registry) == 2
