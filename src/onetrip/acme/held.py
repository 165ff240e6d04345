"""What a node holds for one domain, and when it has to act for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from onetrip.model.status import CertificateState, CertificateStatus
from onetrip.net.tls import ServerContext

FIRST_DELAY, DELAY_GROWTH, LAST_DELAY = 60.0, 3.0, 6 * 3600.0
"""Time before a failed order is repeated, s: the first one, its growth, the last one. Let's Encrypt
allows five failed validations an hour for a name; these are five in the first one."""

DELAY_JITTER = 0.1
"""Spread of every delay (a ratio), so that nodes and domains do not come at once."""

RENEW_JITTER = 0.1
"""Spread of the moment of renewal, as a share of the time that is left then."""

LEAST_REST, LEAST_AGE, REST_RATIO = 12 * 3600.0, 2 * 86400.0, 0.1
"""After an order, least time before the next one, s; least age at which an authority may have a
certificate renewed, s; both at most this share of a lifetime. Let's Encrypt issues the same
certificate five times a week."""

NOTICE_RATIO = 0.5
"""People are told when this share of the time meant for renewing is left."""


@dataclass(slots=True)
class Held:
    """One domain's certificate.

    Attributes:
        context: what is served, or None.
        renew_at: Unix time, s.
        ask_at: monotonic instant from which the authority may be asked when to renew.
        retry_at: monotonic instant before which nothing is ordered.
        failures: orders that failed since the last success.
        is_busy: something is being done for it.
    """

    domain: str
    context: ServerContext | None = None
    renew_at: float = 0.0
    ask_at: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    error: str = ""
    is_busy: bool = False

    def take(self, context: ServerContext, file: str, ratio: float, rng: Random) -> None:
        """Serve another certificate, renewed when `ratio` of its lifetime is left."""
        certificate = context.certificate
        left = certificate.lifetime * ratio
        context.certificate = replace(certificate, file=file, notice=NOTICE_RATIO * left)
        self.context = context
        self.renew_at = certificate.expires_at - left * _spread(rng, RENEW_JITTER)
        self.retry_at = self.ask_at = 0.0
        self.failures, self.error = 0, ""

    def rest(self, now: float) -> None:
        """Order nothing for a while from monotonic `now` on.

        What was just issued may look due at once, by a wrong clock here or an authority that
        issues stale certificates; ordering in a circle would run into its limits.
        """
        assert self.context is not None
        self.retry_at = now + min(LEAST_REST, REST_RATIO * self.context.certificate.lifetime)

    def move_renewal(self, at: float) -> None:
        """Renew at Unix time `at`, but not right after the issue, nor when people are alarmed."""
        assert self.context is not None
        certificate = self.context.certificate
        first = certificate.issued_at + min(LEAST_AGE, REST_RATIO * certificate.lifetime)
        self.renew_at = max(first, min(at, certificate.expires_at - (certificate.notice or 0.0)))

    def fail(self, error: str, now: float, wanted: float | None, rng: Random) -> float:
        """Note a failed order at monotonic `now`; return the time until the next one, s."""
        self.failures += 1
        self.error = error
        delay = retry_delay(self.failures, wanted, rng)
        self.retry_at = now + delay
        return delay

    def is_due(self, wall: float) -> bool:
        """Tell whether a certificate has to be ordered at Unix time `wall`."""
        return self.context is None or wall >= self.renew_at

    def status(self, now: float, wall: float) -> CertificateStatus:
        """Describe it for people."""
        offset = wall - now
        certificate = self.context.certificate if self.context is not None else None
        return CertificateStatus(
            names=(self.domain,),
            state=self._state(wall),
            is_automatic=True,
            issuer=certificate.issuer if certificate is not None else "",
            expires_at=certificate.expires_at if certificate is not None else None,
            renew_at=self.renew_at if certificate is not None else None,
            retry_at=self.retry_at + offset if self.failures else None,
            failures=self.failures,
            error=self.error,
        )

    def _state(self, wall: float) -> CertificateState:
        if self.context is not None and wall >= self.context.certificate.expires_at:
            return CertificateState.EXPIRED
        if self.failures:
            return CertificateState.FAILING
        return CertificateState.ORDERED if self.context is None else CertificateState.VALID


def retry_delay(failures: int, wanted: float | None, rng: Random) -> float:
    """Return the time before the next order, s; never less than the authority `wanted`."""
    grown = FIRST_DELAY * DELAY_GROWTH ** min(failures - 1, 10)
    delay = min(grown, LAST_DELAY) * _spread(rng, DELAY_JITTER)
    return delay if wanted is None else max(delay, wanted)


def _spread(rng: Random, ratio: float) -> float:
    return 1 + ratio * (2 * rng.random() - 1)
