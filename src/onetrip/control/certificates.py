"""Certificates in the admin API: whose they are, until when, and what keeps the next one."""

from __future__ import annotations

from msgspec import Struct

from onetrip.model.status import CertificateState, CertificateStatus


class CertificateRow(Struct, frozen=True):
    """One certificate (`model.status.CertificateStatus`). Instants are Unix time, s."""

    names: list[str]
    state: str
    is_automatic: bool
    issuer: str
    expires_at: float | None
    renew_at: float | None
    retry_at: float | None
    failures: int
    error: str


class CertificatesBody(Struct, frozen=True):
    """`GET /v1/certificates`."""

    certificates: list[CertificateRow]


def certificate_row(status: CertificateStatus) -> CertificateRow:
    """Return one certificate as the API tells it."""
    return CertificateRow(
        names=list(status.names),
        state=status.state.value,
        is_automatic=status.is_automatic,
        issuer=status.issuer,
        expires_at=status.expires_at,
        renew_at=status.renew_at,
        retry_at=status.retry_at,
        failures=status.failures,
        error=status.error,
    )


def problems_of(statuses: list[CertificateStatus]) -> list[str]:
    """Return what a person should know of, one line for each kind of trouble."""
    failing = [s for s in statuses if s.state is CertificateState.FAILING]
    expired = [s for s in statuses if s.state is CertificateState.EXPIRED]
    lines = []
    if failing:
        lines.append(f"{_list(failing)}: no new certificate, {failing[0].error}")
    if expired:
        lines.append(f"{_list(expired)}: certificate has expired")
    return lines


def _list(statuses: list[CertificateStatus]) -> str:
    more = f" and {len(statuses) - 1} more" if len(statuses) > 1 else ""
    return f"{statuses[0].names[0]}{more}"
