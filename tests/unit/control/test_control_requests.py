"""What clients send: each refusal names the field, the value and the limit."""

from __future__ import annotations

import pytest

from onetrip.control.requests import (
    MAX_SHOWN,
    DrainOrder,
    ProjectPatch,
    change_of,
    etag_matches,
    limit_of,
    parse,
    query_of,
)
from onetrip.errors import ApiError
from onetrip.model.catalog import Mode
from onetrip.model.status import PolicyChange

REGIONS = ("den", "bom", "fra")


def change(body: bytes) -> PolicyChange | None:
    return change_of(parse(body, ProjectPatch), REGIONS)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"placement": {"mode": "smart"}}', PolicyChange(mode=Mode.SMART)),
        (b'{"placement": {"mode": "off"}}', PolicyChange(mode=Mode.OFF)),
        (b'{"placement": {"hint": "bom"}}', PolicyChange(hint="bom")),
        (b'{"placement": {"hint": ""}}', PolicyChange(hint="")),
        (b'{"placement": {"hint": null}}', PolicyChange(hint="")),
        (b'{"placement": {"control": 0.02}}', PolicyChange(control_ratio=0.02)),
        (b'{"placement": {"control": 0}}', PolicyChange(control_ratio=0.0)),
        (b'{"placement": {"explore": 0.5}}', PolicyChange(explore_ratio=0.5)),
        (b'{"placement": {}}', None),
        (b"{}", None),
    ],
)
def test_body_becomes_the_change_it_asks_for(body: bytes, wanted: PolicyChange | None) -> None:
    assert change(body) == wanted


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b'{"placement": {"mod": "off"}}', "placement.mod", ["no field"]),
        (b'{"placements": {}}', "placements", ["no field"]),
        (b'{"placement": {"mode": "fast"}}', "placement.mode", ['"fast"', "'off'", "'smart'"]),
        (b'{"placement": {"mode": 1}}', "placement.mode", ["1", "str"]),
        (b'{"placement": {"mode": null}}', "placement.mode", ["null"]),
        (b'{"placement": {"hint": "lon"}}', "placement.hint", ['"lon"', "den, bom, fra"]),
        (b'{"placement": {"control": "x"}}', "placement.control", ['"x"', "float"]),
        (b'{"placement": {"control": true}}', "placement.control", ["true"]),
        (b'{"placement": {"control": -0.1}}', "placement.control", ["-0.1", "0..0.5"]),
        (b'{"placement": {"control": 1e300}}', "placement.control", ["0..0.5"]),
        (b'{"placement": {"explore": 0.51}}', "placement.explore", ["0.51", "0..0.5"]),
        (b'{"placement": []}', "placement", ["[]"]),
        (b"[]", "", ["body is []"]),
    ],
)
def test_refusal_names_field_value_and_limit(body: bytes, field: str, words: list[str]) -> None:
    with pytest.raises(ApiError) as caught:
        change(body)
    assert caught.value.field == field
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"placement": NaN}', b"[" * 100_000, b'{"a":1}x']
)
def test_body_that_is_no_json_is_refused_with_its_size(body: bytes) -> None:
    with pytest.raises(ApiError, match=rf"body of {len(body)} bytes is not JSON"):
        parse(body, ProjectPatch)


def test_long_values_are_not_echoed_in_full() -> None:
    with pytest.raises(ApiError) as caught:
        change(b'{"placement": {"mode": "' + b"a" * 5000 + b'"}}')
    assert len(str(caught.value)) < MAX_SHOWN + 100


def test_query_gives_known_parameters() -> None:
    assert query_of([("edge", "den")], ("edge", "route")) == {"edge": "den"}


@pytest.mark.parametrize(
    ("pairs", "field", "words"),
    [
        ([("egde", "den")], "egde", "known: edge, route"),
        ([("edge", "den"), ("edge", "bom")], "edge", "twice"),
    ],
)
def test_query_with_a_mistake_is_refused(
    pairs: list[tuple[str, str]], field: str, words: str
) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        query_of(pairs, ("edge", "route"))
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["0", "-1", "1001", "ten", "", "1.5", "٣", "9" * 30])
def test_limit_outside_its_range_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match=r"must be in 1\.\.1000") as caught:
        limit_of({"limit": text}, 100, 1000)
    assert caught.value.field == "limit"


def test_limit_defaults_and_reaches_its_bounds() -> None:
    assert [limit_of(q, 100, 1000) for q in ({}, {"limit": "1"}, {"limit": "1000"})] == [
        100,
        1,
        1000,
    ]


@pytest.mark.parametrize(
    ("header", "is_match"),
    [
        ("*", True),
        ('"a"', True),
        ('"x", "a"', True),
        ('"b"', False),
        ("", False),
        ('W/"a"', False),
        ("a", False),
    ],
)
def test_if_match_compares_strongly(header: str, is_match: bool) -> None:
    assert etag_matches(header, '"a"') is is_match


@pytest.mark.parametrize("wanted", [True, False])
def test_drain_says_which_way(wanted: bool) -> None:
    body = b'{"draining": true}' if wanted else b'{"draining": false}'
    assert parse(body, DrainOrder) == DrainOrder(wanted)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "draining"),
        (b'{"draining": 1}', "draining"),
        (b'{"draining": "yes"}', "draining"),
        (b'{"draining": true, "region": "bom"}', "region"),
        (b"[]", ""),
    ],
)
def test_drain_that_is_not_clear_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body, DrainOrder)
    assert caught.value.field == field
