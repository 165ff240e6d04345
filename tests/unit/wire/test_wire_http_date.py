from __future__ import annotations

import pytest

from onetrip.wire.http_date import MAX_DATE, format_date, parse_date

NOW = 1_750_000_000


def test_date_is_written_as_in_the_rfc():
    assert format_date(784111777.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_date(-1) == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_date(MAX_DATE * 2) == b"Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.mark.parametrize(
    "text",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_three_formats_are_read(text):
    assert parse_date(text, NOW) == 784111777


def test_two_digits_of_a_year_are_at_most_50_years_ahead():
    assert parse_date(b"Friday, 01-Jan-75 00:00:00 GMT", NOW) == parse_date(
        b"Tue, 01 Jan 2075 00:00:00 GMT", NOW
    )
    assert parse_date(b"Friday, 01-Jan-76 00:00:00 GMT", NOW) == parse_date(
        b"Thu, 01 Jan 1976 00:00:00 GMT", NOW
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, x",
        b"Sun Nov 06 08:49:37 +0100 1994",
    ],
)
def test_anything_else_is_no_date(text):
    assert parse_date(text, NOW) is None


def test_leap_second_is_the_one_before():
    leap = parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW)
    assert leap == parse_date(b"Sat, 31 Dec 2016 23:59:59 GMT", NOW)
