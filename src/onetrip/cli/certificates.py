"""The text of `onetrip certificates`."""

from __future__ import annotations

from onetrip.cli.render import DASH, instant, plain, table
from onetrip.control.certificates import CertificateRow, CertificatesBody


def certificates(body: CertificatesBody) -> str:
    """Return the list of certificates, with the last error of each below it."""
    if not body.certificates:
        return "no certificates: neither tls.certificates nor tls.acme is set"
    rows = [
        (
            _names(row),
            row.state,
            row.issuer or DASH,
            _at(row.expires_at),
            _at(row.renew_at) if row.is_automatic else "by hand",
            _at(row.retry_at),
        )
        for row in body.certificates
    ]
    errors = [f"{_names(row)}: {plain(row.error)}" for row in body.certificates if row.error]
    heads = ("NAMES", "STATE", "ISSUER", "EXPIRES", "RENEWAL", "NEXT TRY")
    return "\n".join([table(heads, rows), *errors])


def _names(row: CertificateRow) -> str:
    more = f" +{len(row.names) - 1}" if len(row.names) > 1 else ""
    return plain(row.names[0] if row.names else DASH) + more


def _at(at: float | None) -> str:
    return instant(at) if at is not None else DASH
