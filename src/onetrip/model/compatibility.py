"""Behaviour that changed on a date: who was made before it keeps the old one.

A deployment says for which day it was made; a client of the API may say for which version. Both
are dates, and what changed since is listed here once.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from onetrip.errors import ApiError

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

FIRST_DATE = "2026-11-01"
"""Earliest compatibility date: there was nothing to deploy before."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of behaviour.

    Attributes:
        date: from this day on, ISO 8601.
        name: of the new behaviour.
        does: what is different, one line.
    """

    date: str
    name: str
    does: str


CLEAN_URLS = Change(
    "2026-11-25",
    "clean_urls",
    "assets: a path without a file of its own is answered with the file that has .html behind it",
)

DEPLOYMENT_CHANGES = (CLEAN_URLS,)
"""What a deployment's compatibility date decides, oldest first."""


def has(date: str, change: Change) -> bool:
    """Tell whether what was made for `date` gets the new behaviour."""
    return date >= change.date


def check_date(text: str, today: datetime.date, field: str = "compatibility_date") -> str:
    """Return a compatibility date.

    Raises:
        ApiError: it is no date, before the first one, or in the future (what will change until
            then is not known).
    """
    limit = f"a date in {FIRST_DATE}..{today.isoformat()}"
    try:
        # `fromisoformat` takes other spellings of a date, too.
        date = datetime.date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        date = None
    # A day ahead is today somewhere.
    latest = (today + datetime.timedelta(days=1)).isoformat()
    if date is None or not FIRST_DATE <= date.isoformat() <= latest:
        raise ApiError(
            f"{field} is {text[:40]!r}; it must be {limit}",
            field=field,
            value=text[:40],
            limit=limit,
        )
    return date.isoformat()
