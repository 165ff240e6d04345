from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from onetrip.proxy.cache_store import MAX_VARIANTS, OVERHEAD, CacheStore, Key
from onetrip.wire.cache_rules import Request, Stored
from onetrip.wire.conditional import Validators

ANY = Request.read([])
PLAIN = Stored(
    200, [], b"", (), Validators(), 60.0, 0.0, 0.0, 0.0, 0.0, must_ask=False, is_public=False
)
UNIT = OVERHEAD + 100


def key(name, scheme=b"http"):
    return Key(scheme, b"shop.test", b"/%b" % str(name).encode())


def body(name, size=UNIT):
    return replace(PLAIN, body=bytes(size - OVERHEAD - sum(map(len, key(name)))))


def make_store(units):
    evicted = []
    return CacheStore(units * UNIT, lambda: evicted.append(1)), evicted


def test_stored_response_is_found_under_its_key_alone():
    store, _ = make_store(10)
    store.put(key("a"), body("a"))
    assert store.find(key("a"), ANY).stored == body("a")
    for other in (key("b"), key("a", b"https"), key("a")._replace(told=b"x")):
        assert store.find(other, ANY) is None


def test_used_objects_survive_a_flood_of_others():
    store, evicted = make_store(10)
    for name in range(5):
        store.put(key(name), body(name))
    for flood in range(100, 200):
        for name in range(5):
            assert store.find(key(name), ANY)
        store.put(key(flood), body(flood))
    assert all(store.find(key(name), ANY) for name in range(5))
    assert len(evicted) == 95


def test_unused_objects_go_oldest_first():
    store, _ = make_store(3)
    for name in "abcd":
        store.put(key(name), body(name))
    assert [node.key for node in store] == [key("b"), key("c"), key("d")]


def test_object_larger_than_the_store_is_not_kept():
    store, evicted = make_store(2)
    store.put(key("a"), body("a"))
    assert not store.put(key("b"), body("b", 3 * UNIT))
    assert store.find(key("a"), ANY)
    assert not evicted


def test_newer_response_replaces_the_one_chosen_by_the_same_values():
    store, _ = make_store(10)
    store.put(key("a"), body("a"))
    store.put(key("a"), replace(body("a"), status=404))
    assert store.count == 1
    assert store.find(key("a"), ANY).stored.status == 404


def test_variants_are_bounded():
    store, _ = make_store(100)
    for number in range(MAX_VARIANTS + 5):
        vary = ((b"accept", b"%d" % number),)
        store.put(key("a"), replace(body("a"), vary=vary))
    assert store.count == MAX_VARIANTS
    assert store.find(key("a"), Request.read([(b"Accept", b"0")])) is None
    assert store.find(key("a"), Request.read([(b"Accept", b"20")]))


def test_smaller_bound_evicts():
    store, evicted = make_store(5)
    for name in "abcde":
        store.put(key(name), body(name))
    store.shrink(2 * UNIT)
    assert (store.count, len(evicted)) == (2, 3)


def test_purge_takes_what_is_meant():
    store, _ = make_store(10)
    for name in ("a/1", "a/2", "b/1"):
        store.put(key(name), body(name))
    assert store.remove_where(lambda k: k.target.startswith(b"/a/")) == 2
    assert [node.key for node in store] == [key("b/1")]
    assert store.remove_key(key("b/1")) == 1
    assert (store.size, store.count) == (0, 0)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "find", "remove"]), st.integers(0, 9), st.integers(0, 400)),
    max_size=80,
)


@given(OPERATIONS)
def test_size_is_what_is_there_and_never_exceeds_the_bound(operations):
    store, _ = make_store(4)
    for what, name, size in operations:
        if what == "put":
            store.put(key(name), replace(PLAIN, body=bytes(size)))
            assert store.find(key(name), ANY)
        elif what == "find":
            store.find(key(name), ANY)
        else:
            store.remove_key(key(name))
        nodes = list(store)
        assert store.size == sum(node.size for node in nodes) <= store.max_size
        assert store.count == len(nodes) == len({node.key for node in nodes})
        assert all(store.has(node.key) for node in nodes)
