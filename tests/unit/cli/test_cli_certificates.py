"""The text of `onetrip certificates`."""

from __future__ import annotations

from onetrip.cli.certificates import certificates
from onetrip.control.certificates import CertificatesBody, certificate_row, problems_of
from onetrip.model.status import CertificateState, CertificateStatus

FILE = CertificateStatus(
    ("shop.test", "www.shop.test"),
    CertificateState.VALID,
    is_automatic=False,
    issuer="Some CA",
    expires_at=1_750_000_000.0,
)
FAILING = CertificateStatus(
    ("blog.test",),
    CertificateState.FAILING,
    is_automatic=True,
    retry_at=1_750_000_060.0,
    failures=2,
    error="blog.test was not validated: \x1b[31mno",
)
WAITING = CertificateStatus(("new.test",), CertificateState.ORDERED, is_automatic=True)
EXPIRED = CertificateStatus(("old.test",), CertificateState.EXPIRED, is_automatic=True)


def text(*statuses: CertificateStatus) -> list[str]:
    return certificates(CertificatesBody([certificate_row(s) for s in statuses])).splitlines()


def test_each_certificate_is_a_line_and_each_error_one_below():
    lines = text(FILE, FAILING, WAITING)
    assert lines[0].split() == ["NAMES", "STATE", "ISSUER", "EXPIRES", "RENEWAL", "NEXT", "TRY"]
    assert lines[1].startswith("shop.test +1  valid    Some CA")
    assert "by hand" in lines[1]
    assert lines[2].startswith("blog.test     failing")
    assert lines[3].startswith("new.test      ordered")
    assert lines[4] == "blog.test: blog.test was not validated: \N{REPLACEMENT CHARACTER}[31mno"


def test_without_any_the_keys_to_set_are_named():
    assert text() == ["no certificates: neither tls.certificates nor tls.acme is set"]


def test_status_tells_each_kind_of_trouble_once():
    assert problems_of([FILE, WAITING]) == []
    assert problems_of([FAILING, FAILING, EXPIRED]) == [
        f"blog.test and 1 more: no new certificate, {FAILING.error}",
        "old.test: certificate has expired",
    ]
