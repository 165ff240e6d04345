"""How often a caller may call: a token bucket for each token, and for each address without one.

Source: draft-ietf-httpapi-ratelimit-headers-10 for the fields of replies, RFC 6585 for 429.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onetrip.control.problems import RefusedError
from onetrip.errors import Kind

MAX_CALLERS = 1_000
"""Buckets kept; the one unused for longest goes first, and is full again if it comes back."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class RateLimit:
    """The buckets.

    Args:
        rate: requests a second, > 0.
        burst: requests at once, >= 1.
        now: monotonic time, s.
    """

    def __init__(self, rate: float, burst: int, now: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> Mapping[str, str]:
        """Count a request; return the fields of its reply.

        Raises:
            RefusedError: 429, the caller has none left; it is not counted.
        """
        now, bucket = self._now(), self._buckets.pop(caller, None)
        if bucket is None:
            bucket = _Bucket(self._burst, now)
        self._buckets[caller] = bucket
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        bucket.level = min(self._burst, bucket.level + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.level < 1.0:
            raise self._refusal(bucket)
        bucket.level -= 1.0
        return self._fields(bucket)

    def _fields(self, bucket: _Bucket) -> dict[str, str]:
        window = math.ceil(self._burst / self._rate)
        full_in = math.ceil((self._burst - bucket.level) / self._rate)
        return {
            "RateLimit-Policy": f'"default";q={self._burst};w={window}',
            "RateLimit": f'"default";r={int(bucket.level)};t={full_in}',
        }

    def _refusal(self, bucket: _Bucket) -> RefusedError:
        wait = max(1, math.ceil((1.0 - bucket.level) / self._rate))
        limit = f"{self._rate:g} a second, {self._burst} at once"
        return RefusedError(
            429,
            f"more requests than {limit}; try again in {wait} s",
            kind=Kind.RATE,
            limit=limit,
            headers={"Retry-After": str(wait), **self._fields(bucket)},
        )
