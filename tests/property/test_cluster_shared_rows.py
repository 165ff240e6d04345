"""Nodes that share rows over a store agree in the end, whatever was lost and whoever was faster."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.cluster.shared_rows import LATEST, Row, Thing, is_newer, thing_of
from support.clock import VirtualClock
from support.fake_bus import Stored
from support.shared_rows import Sharer, policy, resource

NAMES = ("den", "bom", "fra")

ROWS = st.one_of(
    st.builds(
        resource,
        st.sampled_from("ab"),
        st.integers(1, 3),
        st.sampled_from(NAMES),
        st.sampled_from([b"", b"1", b"2"]),
    ),
    st.builds(policy, st.integers(1, 3), st.sampled_from(NAMES), st.sampled_from([None, "den"])),
)

STEPS = st.one_of(
    st.tuples(st.just("declare"), st.sampled_from(NAMES), ROWS),
    st.tuples(st.sampled_from(["tick", "lose", "find"]), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("wipe"), st.just("den"), st.none()),
)


def greatest(rows: list[Row]) -> dict[Thing, Row]:
    """Return what counts of all statements."""
    out: dict[Thing, Row] = {}
    for row in rows:
        known = out.get(thing_of(row))
        if known is None or is_newer(row, known):
            out[thing_of(row)] = row
    return out


async def play(steps: list[tuple[str, str, Row | None]]) -> None:
    stored, clock = Stored(), VirtualClock()
    nodes = {name: Sharer(name, stored, clock) for name in NAMES}
    declared: list[Row] = []
    for node in nodes.values():
        await node.open()
    for step, name, row in steps:
        node = nodes[name]
        if step == "declare" and row is not None:
            declared.append(row)
            await node.declare(row)
        elif step == "tick":
            await node.tick()
        elif step == "lose":
            node.bucket.is_down = True
            node.bucket.leave()
        elif step == "find":
            node.bucket.is_down = False
            await node.open()
        elif step == "wipe":
            stored.values.clear()
    for _ in range(4):
        for node in nodes.values():
            node.bucket.is_down = False
            await node.open()
            await node.tick()
        clock.step(LATEST + 1)
    expected = greatest(declared)
    for node in nodes.values():
        assert node.ledger.known == expected
        assert not node.errors
    assert len(stored.values) == len(expected)


@settings(deadline=None, max_examples=60)
@given(st.lists(STEPS, max_size=25))
def test_nodes_agree_on_the_greatest_statement_about_each_thing(steps):
    asyncio.run(play(steps))
