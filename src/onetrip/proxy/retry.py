"""When an attempt may be repeated, and how many repeats an outage gets.

A request is repeated when the next hop cannot have acted on it: the connection was never opened, or
it said so itself. An idempotent one is also repeated when the connection ended before the first
byte of an answer (RFC 9110 section 9.2.2): the next hop may have died with it. The budget keeps
repeats a share of traffic: without one, retries multiply an outage.
"""

from __future__ import annotations

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.timing import Clock

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may be sent twice (RFC 9110 section 9.2.2)."""

_UNTOUCHED = frozenset((Kind.UNAVAILABLE, Kind.REFUSED, Kind.LEAVING))
"""The next hop said that it did not act: a peer's refusal, REFUSED_STREAM, GOAWAY (RFC 9113 section
8.7); any request may be sent again."""

_HALF_LIFE = 10.0
"""Seconds after which a request counts half as recent."""


class RetryBudget:
    """Allows extra attempts up to `ratio` of recent requests plus `reserve`.

    Both counts decay together, so the budget refills as traffic goes on. Call `age` now and then.
    """

    __slots__ = ("_at", "_clock", "_ratio", "_requests", "_reserve", "_retries")

    def __init__(self, ratio: float, reserve: int, clock: Clock) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._clock = clock
        self._requests = 0.0
        self._retries = 0.0
        self._at = clock.now()

    def note_request(self) -> None:
        """Count one request."""
        self._requests += 1.0

    def age(self) -> None:
        """Let earlier requests and retries count less."""
        now = self._clock.now()
        decay = 0.5 ** ((now - self._at) / _HALF_LIFE)
        self._at = now
        self._requests *= decay
        self._retries *= decay

    def take(self) -> bool:
        """Take one extra attempt from the budget; False when it is used up."""
        self.age()
        if self._retries + 1.0 > self._ratio * self._requests + self._reserve:
            return False
        self._retries += 1.0
        return True

    def give_back(self) -> None:
        """Put back an attempt that was taken and not made."""
        self._retries = max(0.0, self._retries - 1.0)


def is_repeatable(error: UpstreamError, method: bytes, was_sent: bool, can_resend: bool) -> bool:
    """Tell whether a failed attempt may be repeated.

    Args:
        was_sent: any byte of the request was written to the next hop.
        can_resend: the body is still at hand, whole.
    """
    if not error.retryable or not can_resend:
        return False
    return not was_sent or method in IDEMPOTENT or error.kind in _UNTOUCHED


def is_refusal(error: OnetripError, method: bytes) -> bool:
    """Tell whether the edge may send the request elsewhere: no instance can have acted on it.

    Or it was reset before any answer, and may be sent twice.
    """
    if not isinstance(error, UpstreamError):
        return False
    if error.kind is Kind.RESET:
        return error.retryable and method in IDEMPOTENT
    return error.retryable or error.kind in (Kind.UNAVAILABLE, Kind.CONNECT)
