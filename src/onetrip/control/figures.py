"""Numbers as answers of the API have them: rounded, and null where nothing is known."""

from __future__ import annotations

import math


def milliseconds(seconds: float) -> float | None:
    """Return `seconds` as milliseconds rounded to the microsecond; None when not finite."""
    return round(seconds * 1e3, 3) if math.isfinite(seconds) else None


def finite(value: float, digits: int = 3) -> float | None:
    """Return `value` rounded, or None when it is NaN or infinite."""
    return round(value, digits) if math.isfinite(value) else None
