"""HTTP dates: the one format that is written, and the three that are read.

Source: RFC 9110 section 5.6.7.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_MONTH = rb"(" + "|".join(_MONTHS).encode() + rb")"
_TIME = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FIXDATE = re.compile(rb"[A-Z][a-z]{2}, ([0-9]{2}) " + _MONTH + rb" ([0-9]{4}) " + _TIME + rb" GMT")
_RFC850 = re.compile(
    rb"[A-Z][a-z]{5,8}, ([0-9]{2})-" + _MONTH + rb"-([0-9]{2}) " + _TIME + rb" GMT"
)
_ASCTIME = re.compile(rb"[A-Z][a-z]{2} " + _MONTH + rb" ([ 0-9][0-9]) " + _TIME + rb" ([0-9]{4})")

MAX_DATE = 253402300799
"""Last second that the format can hold (year 9999), Unix time."""


def format_date(at: float) -> bytes:
    """Return a Unix time, s, as IMF-fixdate; fractions are cut off."""
    date = datetime.fromtimestamp(min(max(0, int(at)), MAX_DATE), UTC)
    day, month = _DAYS[date.weekday()], _MONTHS[date.month - 1]
    return f"{day}, {date.day:02} {month} {date.year:04} {date:%H:%M:%S} GMT".encode()


def parse_date(value: bytes, now: float) -> int | None:
    """Return a date as Unix time, s, or None when it is none.

    Args:
        now: Unix time, s: two digits of a year mean the one that is at most 50 years ahead.
    """
    if match := _FIXDATE.fullmatch(value):
        day, month, year, *time = match.groups()
        return _instant(int(year), month, day, time)
    if match := _RFC850.fullmatch(value):
        day, month, year, *time = match.groups()
        today = datetime.fromtimestamp(now, UTC).year
        full = today - today % 100 + int(year)
        return _instant(full - 100 if full > today + 50 else full, month, day, time)
    if match := _ASCTIME.fullmatch(value):
        month, day, *time, year = match.groups()
        return _instant(int(year), month, day.strip(), time)
    return None


def _instant(year: int, month: bytes, day: bytes, time: list[bytes]) -> int | None:
    hour, minute, second = (int(part) for part in time)
    number = _MONTHS.index(month.decode()) + 1
    try:
        # 60 is a leap second, which Unix time does not have.
        date = datetime(year, number, int(day), hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return int(date.timestamp()) if second <= 60 else None
