"""The rules of the cache, as tables in the order of RFC 9111.

What each row is about follows the public test suite for HTTP caches (cache-tests.fyi).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.wire.cache_control import MAX_DELTA, parse_directives
from onetrip.wire.cache_rules import (
    KEPT_STATUSES,
    Policy,
    Received,
    Request,
    Use,
    choose_use,
    condition_lines,
    confirm,
    judge,
    may_hide_error,
)
from onetrip.wire.http_date import format_date

WALL = 1_750_000_000.0
T0 = 1000.0
FRESH, LATER, VALIDATE = Use.FRESH, Use.REVALIDATE_LATER, Use.VALIDATE
GET = Request.read([])


def fields(*lines):
    return [tuple(part.strip().encode() for part in line.split(":", 1)) for line in lines]


def at(offset):
    return format_date(WALL + offset).decode()


def response(*lines, status=200, delay=0.0):
    return Received(status, fields(*lines), T0 - delay, T0, WALL)


def keep(*lines, status=200, request=GET, policy=None, delay=0.0):
    return judge(request, response(*lines, status=status, delay=delay), policy or Policy())


def request(*lines):
    return Request.read(fields(*lines))


class TestDirectives:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"max-age=5", 5),
            (b"MAX-AGE=5", 5),
            (b'max-age="5"', 5),
            (b"max-age=005", 5),
            (b"a, max-age=5 ,b", 5),
            (b"max-age=5, max-age=5", 5),
            (b"max-age=5, max-age=7", 0),
            (b"max-age=7, max-age=5", 0),
            (b"max-age =5", 0),
            (b"max-age= 5", 0),
            (b"max-age=-5", 0),
            (b"max-age=5.0", 0),
            (b"max-age='5'", 0),
            (b"max-age=5a", 0),
            (b"max-age=a5", 0),
            (b"max-age", 0),
            (b"max-age=99999999999999999999999", MAX_DELTA),
            (b'x="max-age=99", max-age=5', 5),
            (b'max-age=5, x="max-age=99"', 5),
            (b'x="a\\", max-age=99", max-age=5', 5),
            (b'x="max-age=99', None),
            (b"", None),
            (b"s-max-age=5", None),
            (b"xmax-age=5", None),
        ],
    )
    def test_seconds(self, value, seconds):
        found = parse_directives(value)
        assert found.seconds.get(b"max-age") == seconds
        assert (b"max-age" in found) is (seconds is not None)

    @pytest.mark.parametrize(
        "value",
        [b"no-store", b"No-Store", b"a,no-store", b"no-store=x", b'no-store="a"', b"no-store x"],
    )
    def test_restriction_counts_however_it_is_written(self, value):
        assert b"no-store" in parse_directives(value)

    @given(st.binary(max_size=60))
    def test_anything_can_be_read(self, value):
        found = parse_directives(value)
        assert all(0 <= seconds <= MAX_DELTA for seconds in found.seconds.values())


class TestStorability:
    @pytest.mark.parametrize("status", sorted(KEPT_STATUSES))
    def test_known_status_with_explicit_freshness_is_kept(self, status):
        assert keep("Cache-Control: max-age=60", status=status)

    @pytest.mark.parametrize("status", [206, 304, 303, 400, 401, 403, 500, 502, 503, 504, 599])
    def test_other_status_is_not(self, status):
        assert not keep("Cache-Control: max-age=60", status=status)

    @pytest.mark.parametrize(
        "lines",
        [
            ("Cache-Control: no-store, max-age=60",),
            ("Cache-Control: max-age=60", "Cache-Control: NO-STORE"),
            ("Cache-Control: private, max-age=60",),
            ('Cache-Control: private="x-a", max-age=60',),
            ("Cache-Control: s-maxage=60, private",),
            ("Cache-Control: max-age=60", "Set-Cookie: a=b"),
            ("Cache-Control: max-age=60", "Vary: *"),
            ("Cache-Control: max-age=60", "Vary: accept, *"),
            ("Cache-Control: max-age=60", "Vary: " + ", ".join(f"x-{n}" for n in range(9))),
            ("Cache-Control: max-age=0",),
            ("Cache-Control: no-cache",),
            ("Cache-Control: public",),
            ("Expires: 0",),
            ("Last-Modified: " + at(-86400),),
            ('ETag: "a"',),
            (),
        ],
    )
    def test_response_is_not_kept(self, lines):
        assert not keep(*lines)

    @pytest.mark.parametrize(
        "lines",
        [
            ("Cache-Control: max-age=60",),
            ("Cache-Control: s-maxage=60",),
            ("Expires: " + at(60),),
            ("Cache-Control: no-cache", 'ETag: "a"'),
            ("Cache-Control: max-age=0", "Last-Modified: " + at(-60)),
            ("Cache-Control: max-age=60", "Pragma: no-cache"),
            ("Cache-Control: max-age=60, unknown=1",),
        ],
    )
    def test_response_is_kept(self, lines):
        assert keep(*lines)

    def test_request_may_forbid_it(self):
        assert not keep("Cache-Control: max-age=60", request=request("Cache-Control: no-store"))

    def test_cookies_are_kept_where_the_project_wants_that(self):
        lines = ("Cache-Control: max-age=60", "Set-Cookie: a=b")
        assert keep(*lines, policy=Policy(keeps_cookies=True))

    @pytest.mark.parametrize(
        ("control", "is_kept"),
        [
            ("max-age=60", False),
            ("max-age=60, public", True),
            ("s-maxage=60", True),
            ("max-age=60, must-revalidate", True),
            ("max-age=60, proxy-revalidate", False),
        ],
    )
    def test_response_to_credentials_needs_to_be_public(self, control, is_kept):
        asked = request("Authorization: Basic x")
        stored = keep(f"Cache-Control: {control}", request=asked)
        assert (stored is not None) is is_kept
        shared = keep(f"Cache-Control: {control}")
        assert shared is not None
        assert shared.fits(asked) is is_kept


class TestFreshness:
    @pytest.mark.parametrize(
        ("lines", "lifetime"),
        [
            (("Cache-Control: max-age=60",), 60),
            (("Cache-Control: max-age=60, s-maxage=30",), 30),
            (("Cache-Control: max-age=60", "Expires: " + at(-60)), 60),
            (("Cache-Control: s-maxage=x, max-age=60", 'ETag: "a"'), 0),
            (("Expires: " + at(60), "Date: " + at(0)), 60),
            (("Expires: " + at(60), "Date: " + at(-60)), 120),
            (("Expires: " + at(60),), 60),
            (("Expires: " + at(-60), 'ETag: "a"'), 0),
            (("Expires: 0", 'ETag: "a"'), 0),
            (("Expires: tomorrow", 'ETag: "a"'), 0),
            (("Expires: " + at(60), "Expires: " + at(60), 'ETag: "a"'), 0),
        ],
    )
    def test_lifetime(self, lines, lifetime):
        stored = keep(*lines)
        assert stored is not None
        assert stored.lifetime == lifetime

    def test_heuristic_is_a_share_of_the_age_and_off_by_default(self):
        policy, lines = Policy(heuristic=0.1), ("Last-Modified: " + at(-1000),)
        assert keep(*lines) is None
        assert keep(*lines, policy=policy).lifetime == pytest.approx(100)
        assert keep(*lines, policy=policy, status=302) is None
        old = keep("Last-Modified: " + at(-(10**8)), policy=policy)
        assert old.lifetime == 86400

    @pytest.mark.parametrize(
        ("lines", "age"),
        [
            ((), 0),
            (("Age: 10",), 10),
            (("Date: " + at(-10),), 10),
            (("Date: " + at(-10), "Age: 20"), 20),
            (("Date: " + at(-20), "Age: 10"), 20),
            (("Date: " + at(50),), 0),
            (("Age: 10, 0",), 10),
            (("Age: 0", "Age: 10"), 0),
            (("Age: abc",), 0),
            (("Age: -10",), 0),
            (("Age: 10.0",), 0),
            (("Age: 99999999999999999999",), 1 << 31),
        ],
    )
    def test_age_at_arrival(self, lines, age):
        assert keep("Cache-Control: max-age=60", *lines).age == age

    def test_time_on_the_way_counts_as_age(self):
        stored = keep("Cache-Control: max-age=60", "Age: 5", delay=2.0)
        assert stored.age == 7
        assert stored.age_at(T0 + 10) == 17
        assert stored.fresh_for(T0 + 10) == 43

    def test_missing_date_is_added_and_age_is_told_anew(self):
        kept = dict(keep("Cache-Control: max-age=60", "Age: 5", "X-A: b").fields)
        assert kept == {
            b"Cache-Control": b"max-age=60",
            b"X-A": b"b",
            b"Date": format_date(WALL),
        }


class TestVary:
    def test_response_answers_requests_with_the_same_values(self):
        asked = request("Accept: a,  b", "X-A: 1")
        stored = keep("Cache-Control: max-age=60", "Vary: Accept, x-b", request=asked)
        assert stored.fits(request("Accept: a,b", "X-A: 2"))
        assert stored.fits(request("Accept: a", "accept: b"))
        assert not stored.fits(request("Accept: b,a"))
        assert not stored.fits(request("Accept: a,b", "X-B: 1"))
        assert not stored.fits(GET)

    def test_names_of_codings_have_no_case(self):
        asked = request("Accept-Encoding: GZIP, br")
        stored = keep("Cache-Control: max-age=60", "Vary: accept-encoding", request=asked)
        assert stored.fits(request("Accept-Encoding: gzip,BR"))

    def test_coded_response_varies_whether_it_says_so_or_not(self):
        asked = request("Accept-Encoding: gzip")
        lines = ("Cache-Control: max-age=60", "Content-Encoding: gzip")
        stored = keep(*lines, request=asked)
        assert stored.fits(asked)
        assert not stored.fits(GET)


class TestUse:
    @pytest.mark.parametrize(
        ("control", "asked", "after", "use"),
        [
            ("max-age=60", "", 59, FRESH),
            ("max-age=60", "", 60, VALIDATE),
            ("max-age=60", "no-cache", 1, VALIDATE),
            ("max-age=60", "max-age=10", 10, FRESH),
            ("max-age=60", "max-age=10", 11, VALIDATE),
            ("max-age=60", "max-age=0", 0.1, VALIDATE),
            ("max-age=60", "min-fresh=10", 50, FRESH),
            ("max-age=60", "min-fresh=10", 51, VALIDATE),
            ("max-age=60", "max-stale=100", 61, VALIDATE),
            ("max-age=60", "only-if-cached", 1, FRESH),
            ("no-cache, max-age=60", "", 1, VALIDATE),
            ('no-cache="x-a", max-age=60', "", 1, VALIDATE),
            ("max-age=60, stale-while-revalidate=30", "", 59, FRESH),
            ("max-age=60, stale-while-revalidate=30", "", 60, LATER),
            ("max-age=60, stale-while-revalidate=30", "", 89, LATER),
            ("max-age=60, stale-while-revalidate=30", "", 90, VALIDATE),
            ("max-age=60, stale-while-revalidate=30", "no-cache", 61, VALIDATE),
            ("max-age=60, stale-while-revalidate=30", "max-age=50", 61, VALIDATE),
            ("max-age=60, stale-while-revalidate=30", "min-fresh=0", 61, VALIDATE),
            ("s-maxage=60, stale-while-revalidate=30", "", 61, LATER),
            ("max-age=60, stale-while-revalidate=30, must-revalidate", "", 61, VALIDATE),
            ("max-age=60, stale-while-revalidate=30, proxy-revalidate", "", 61, VALIDATE),
        ],
    )
    def test_stored_response(self, control, asked, after, use):
        stored = keep(f"Cache-Control: {control}", 'ETag: "a"')
        wanted = request(f"Cache-Control: {asked}") if asked else GET
        assert choose_use(stored, wanted, T0 + after) is use

    @pytest.mark.parametrize(
        ("control", "asked", "after", "may"),
        [
            ("max-age=60", "", 61, False),
            ("max-age=60, stale-if-error=30", "", 61, True),
            ("max-age=60, stale-if-error=30", "", 91, False),
            ("max-age=60, stale-if-error=30", "no-cache", 61, False),
            ("max-age=60, stale-if-error=30, must-revalidate", "", 61, False),
            ("no-cache, max-age=60, stale-if-error=30", "", 1, False),
        ],
    )
    def test_error_is_hidden_only_where_the_response_allows(self, control, asked, after, may):
        stored = keep(f"Cache-Control: {control}", 'ETag: "a"')
        wanted = request(f"Cache-Control: {asked}") if asked else GET
        assert may_hide_error(stored, wanted, T0 + after) is may

    @pytest.mark.parametrize(
        "line",
        [
            "If-Match: *",
            "If-Unmodified-Since: x",
            "X-HTTP-Method-Override: DELETE",
            "X-Original-URL: /admin",
            "Upgrade: h2c",
        ],
    )
    def test_request_goes_past_the_cache(self, line):
        assert request(line).bypasses
        assert not GET.bypasses


class TestValidation:
    def test_validators_are_sent(self):
        modified = at(-60)
        stored = keep("Cache-Control: max-age=1", 'ETag: W/"a"', f"Last-Modified: {modified}")
        lines = f'If-None-Match: W/"a"\r\nIf-Modified-Since: {modified}\r\n'
        assert condition_lines(stored) == lines.encode()

    def test_odd_validators_are_not(self):
        stored = keep("Cache-Control: max-age=1", "ETag: a", "Last-Modified: yesterday")
        assert condition_lines(stored) == b""

    def test_304_replaces_fields_and_renews_freshness(self):
        stored = keep(
            "Cache-Control: max-age=1", 'ETag: "a"', "X-A: old", "X-B: kept", "Content-Type: t"
        )
        told = response(
            "Cache-Control: max-age=60", 'ETag: "a"', "x-a: new", "Content-Length: 99", "Age: 3"
        )
        merged = confirm(stored, told)
        updated = judge(GET, merged, Policy())
        assert (updated.status, updated.lifetime, updated.age) == (200, 60, 3)
        kept = {name.lower(): value for name, value in updated.fields}
        assert kept[b"x-a"] == b"new"
        assert kept[b"x-b"] == b"kept"
        assert kept[b"content-type"] == b"t"
        assert b"content-length" not in kept
        assert len(updated.fields) == len(kept)

    def test_304_about_another_version_is_none_of_it(self):
        stored = keep("Cache-Control: max-age=1", 'ETag: "a"')
        assert confirm(stored, response('ETag: "b"')) is None
        assert confirm(stored, response('ETag: W/"a"')) is not None
        assert confirm(stored, response()) is not None


NAMES = st.sampled_from(
    [
        "no-store",
        "no-cache",
        "private",
        "public",
        "max-age=0",
        "max-age=10",
        "s-maxage=5",
        "must-revalidate",
        "proxy-revalidate",
        "stale-while-revalidate=20",
        "stale-if-error=20",
        "min-fresh=3",
        "max-stale",
        "only-if-cached",
        "x",
    ]
)
CONTROL = st.lists(NAMES, max_size=5).map(", ".join)


@given(CONTROL, CONTROL, st.sampled_from(sorted(KEPT_STATUSES)), st.booleans())
def test_nothing_is_kept_against_the_word_of_either_side(ours, theirs, status, has_etag):
    lines = ['ETag: "a"'] if has_etag else []
    asked = request(f"Cache-Control: {theirs}")
    stored = keep(f"Cache-Control: {ours}", *lines, status=status, request=asked)
    if stored is not None:
        said = ours.split(", ")
        assert not {"no-store", "private"} & set(said)
        assert "no-store" not in theirs.split(", ")
        assert stored.lifetime > 0 or condition_lines(stored)


@given(CONTROL, CONTROL, st.floats(0, 100), st.integers(0, 30))
def test_nothing_stale_is_used_without_permission(ours, theirs, after, age):
    stored = keep(f"Cache-Control: {ours}", 'ETag: "a"', f"Age: {age}")
    if stored is None:
        return
    asked, now = request(f"Cache-Control: {theirs}"), T0 + after
    use, stale_for = choose_use(stored, asked, now), -stored.fresh_for(now)
    forbidden = {"must-revalidate", "proxy-revalidate", "no-cache"} & set(ours.split(", "))
    if use is not VALIDATE:
        assert "no-cache" not in ours.split(", ") + theirs.split(", ")
        assert stale_for < 0 or (use is LATER and stale_for < 20 and not forbidden)
    if may_hide_error(stored, asked, now) and stale_for >= 0:
        assert "stale-if-error=20" in ours
        assert stale_for < 20
        assert not forbidden


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_age_only_grows(one, other):
    stored = replace(keep("Cache-Control: max-age=60"), age=3.0)
    first, second = sorted((one, other))
    assert 3.0 <= stored.age_at(T0 + first) <= stored.age_at(T0 + second)
