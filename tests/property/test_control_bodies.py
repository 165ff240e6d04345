"""Whatever a client sends is a valid change or an `ApiError`; whatever is shown is one line."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from onetrip.cli.render import plain, table
from onetrip.control.requests import MAX_RATIO, ProjectPatch, change_of, parse
from onetrip.errors import ApiError

FIELDS = st.sampled_from(["placement", "mode", "hint", "control", "explore"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | FIELDS, inner, max_size=4)
    ),
    max_leaves=12,
)
PLACEMENTS = st.dictionaries(FIELDS, st.sampled_from(["smart", "off", "bom", ""]) | JSON)


def check(body: bytes) -> None:
    try:
        change = change_of(parse(body, ProjectPatch), ("den", "bom"))
    except ApiError:
        return
    if change is not None:
        assert change.hint in (None, "", "den", "bom")
        for ratio in (change.control_ratio, change.explore_ratio):
            assert ratio is None or 0.0 <= ratio <= MAX_RATIO


@given(st.binary(max_size=200))
def test_any_bytes_are_a_change_or_refused(body: bytes) -> None:
    check(body)


@given(JSON | st.fixed_dictionaries({"placement": PLACEMENTS}))
def test_any_json_is_a_change_or_refused(value: object) -> None:
    check(msgspec.json.encode(value))


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_a_table_has_a_line_for_each_row(rows: list[tuple[str, str]]) -> None:
    assert table(("A", ">B"), rows).count("\n") == len(rows)


@given(st.text())
def test_plain_text_is_printable_and_stays_so(text: str) -> None:
    once = plain(text)
    assert once.isprintable()
    assert plain(once) == once
