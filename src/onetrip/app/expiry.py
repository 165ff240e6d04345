"""Tells in time that a certificate is about to expire: a metric always, an event near the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from onetrip.net.tls import Certificate
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

NOTICE = 14 * 86400.0
"""A certificate with less time left than this is told about, s."""

INTERVAL = 86400.0
"""Time between two looks at the dates, s."""


class ExpiryWatch:
    """Keeps an eye on the certificates in use.

    Args:
        tell: makes an event, of a certificate's file and a detail.
    """

    def __init__(self, metrics: Metrics, clock: Clock, tell: Callable[[str, str], None]) -> None:
        self._gauge = metrics.certificate_expiry
        self._clock = clock
        self._tell = tell
        self._certificates: tuple[Certificate, ...] = ()

    def watch(self, certificates: Iterable[Certificate]) -> None:
        """Watch these from now on, and no others."""
        self._certificates = tuple(certificates)
        self._gauge.clear()
        for certificate in self._certificates:
            self._gauge.labels(certificate.file).set_function(partial(self._left, certificate))

    async def check(self) -> None:
        """Make an event for each certificate that has little time left."""
        for certificate in self._certificates:
            left = self._left(certificate)
            if left < (NOTICE if certificate.notice is None else certificate.notice):
                self._tell(certificate.file, f"{left / 86400:.1f} days left")

    def _left(self, certificate: Certificate) -> float:
        return certificate.expires_at - self._clock.wall()
