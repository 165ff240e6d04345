"""The checker finds what it is there for, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.histories import (
    DOUBLE,
    FORKED,
    LOST,
    OWN,
    PHANTOM,
    SEEN,
    ListOp,
    RegisterOp,
    check_lists,
    check_registers,
)


def wrote(session: int, version: int, key: str = "x") -> RegisterOp:
    return RegisterOp(session, key, True, version)


def read(session: int, version: int, key: str = "x") -> RegisterOp:
    return RegisterOp(session, key, False, version)


@pytest.mark.parametrize(
    ("history", "kinds"),
    [
        ([wrote(1, 5), read(1, 5)], []),
        ([wrote(1, 5), read(1, 4)], [OWN]),
        ([wrote(1, 5), read(2, 4)], []),
        ([wrote(1, 5), read(1, 4, "y")], []),
        ([read(1, 5), read(1, 5), read(1, 6), read(1, 5)], [SEEN]),
        ([read(1, 5), wrote(1, 6), read(1, 5)], [OWN]),
        ([wrote(1, 5), read(1, 9), read(1, 7)], [SEEN]),
        ([read(1, 3), read(1, 2), read(1, 3)], [SEEN]),
    ],
)
def test_registers(history: list[RegisterOp], kinds: list[str]) -> None:
    assert [each.kind for each in check_registers(history)] == kinds


def put(session: int, value: int, *, is_answered: bool = True) -> ListOp:
    return ListOp(session, "x", value, is_answered=is_answered)


def saw(session: int, *shown: int) -> ListOp:
    return ListOp(session, "x", shown=shown)


@pytest.mark.parametrize(
    ("history", "kinds"),
    [
        ([put(1, 1), saw(1, 1), put(2, 2), saw(1, 1, 2), saw(2, 1, 2)], []),
        ([put(1, 1), saw(1), saw(2, 1)], [OWN]),
        ([put(1, 1), put(2, 2), saw(3, 1, 2), saw(3, 1), saw(1, 1, 2)], [SEEN]),
        ([put(1, 1, is_answered=False), saw(1), saw(2, 1)], []),
        ([put(1, 1, is_answered=False), saw(1), saw(2)], []),
        ([put(1, 1), put(2, 2), saw(3, 1), saw(4, 2, 1)], [FORKED]),
        ([put(1, 1), saw(2, 1, 9)], [PHANTOM]),
        ([put(1, 1), saw(2, 1, 1)], [DOUBLE]),
        ([put(1, 1), put(1, 2), saw(3, 2)], [LOST]),
        ([put(1, 1), put(1, 2)], []),
    ],
)
def test_lists(history: list[ListOp], kinds: list[str]) -> None:
    assert [each.kind for each in check_lists(history)] == kinds


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=30))
def test_one_copy_of_a_list_breaks_nothing(steps: list[tuple[int, bool]]) -> None:
    values: list[int] = []
    history: list[ListOp] = []
    for session, is_read in steps:
        if is_read:
            history.append(saw(session, *values))
        else:
            values.append(len(values) + 1)
            history.append(put(session, values[-1]))
    assert check_lists(history) == []


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_a_copy_that_is_behind_is_found_where_its_client_can_tell(
    steps: list[tuple[int, int]],
) -> None:
    values: list[int] = []
    history: list[ListOp] = []
    known: dict[int, int] = {}
    is_broken = False
    for session, behind in steps:
        values.append(len(values) + 1)
        history.append(put(session, values[-1]))
        shown = values[: len(values) - behind] if behind < len(values) else []
        history.append(saw(session, *shown))
        floor = max(known.get(session, 0), values[-1])
        is_broken |= len(shown) < floor
        known[session] = floor
    history.append(saw(9, *values))
    assert bool(check_lists(history)) is is_broken
