"""Files that prove who a node is: checked before the library reads them, and never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrip.cluster.nats_proof import CREDENTIALS, NKEY, Form, read_proof
from onetrip.errors import PeerError

SEED = "SU" + "A" * 56
CREDS = (
    "-----BEGIN NATS USER JWT-----\nabc.def-_.ghi\n------END NATS USER JWT------\n\n"
    f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
)


@pytest.mark.parametrize(
    ("form", "text"), [(CREDENTIALS, CREDS), (NKEY, SEED), (NKEY, SEED + "\n")]
)
def test_what_is_of_its_form_is_returned(tmp_path: Path, form: Form, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert read_proof(path, form) == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (CREDENTIALS, ""),
        (CREDENTIALS, SEED),
        (CREDENTIALS, CREDS.replace("BEGIN USER NKEY SEED", "END")),
        (CREDENTIALS, CREDS.replace("SU", "SA")),
        (NKEY, ""),
        (NKEY, CREDS),
        (NKEY, "UA" + "A" * 56),
        (NKEY, SEED + "A"),
    ],
)
def test_what_is_not_names_the_field_and_holds_nothing_of_it(
    tmp_path: Path, form: Form, text: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(PeerError, match=rf"{form.key}: .*file is not") as failure:
        read_proof(path, form)
    assert "AAAA" not in str(failure.value)


def test_what_cannot_be_read_names_the_field(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"nkey_file: .*No such file"):
        read_proof(tmp_path / "none", NKEY)
