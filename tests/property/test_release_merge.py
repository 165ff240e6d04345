"""Nodes that heard the same rows agree, whatever they heard first and how often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onetrip.model.resource import Resource, ResourceKey, ResourceKind
from onetrip.model.topology import RegionId
from onetrip.release.registry import Registry

KEYS = st.builds(
    ResourceKey, st.sampled_from(ResourceKind), st.sampled_from(["", "a"]), st.sampled_from("xy")
)
ROWS = st.builds(
    Resource,
    KEYS,
    st.integers(1, 3),
    st.sampled_from([RegionId("den"), RegionId("bom")]),
    st.sampled_from([1.0, 2.0]),
    st.sampled_from([b"", b"1", b"2"]),
)


def registry(*batches: list[Resource]) -> Registry:
    made = Registry()
    for batch in batches:
        made.merge(batch)
    return made


def content(made: Registry) -> dict[ResourceKey, Resource]:
    return {row.key: row for row in made.rows()}


@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12))
def test_merge_is_commutative_associative_and_idempotent(a, b, c):
    one = registry(a, b, c)
    for other in (registry(c, b, a), registry(b, a, c, a, b), registry(a + b + c)):
        assert content(one) == content(other)
        assert one.digest == other.digest
    assert content(one.copy()) == content(one)


@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12))
def test_digests_differ_while_something_that_exists_does(a, b):
    one, other = registry(a), registry(b)
    living = [{r.key: r for r in each.rows() if not r.is_gone} for each in (one, other)]
    same = [{(k, r.version, r.origin, r.body) for k, r in each.items()} for each in living]
    assert (one.digest == other.digest) is (same[0] == same[1])


@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12))
def test_exchange_of_all_rows_makes_two_nodes_agree(a, b):
    one, other = registry(a), registry(b)
    one.merge(other.rows())
    other.merge(one.rows())
    assert content(one) == content(other)
