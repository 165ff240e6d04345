"""`cluster.nats`: what is refused names its key, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrip.app.nats import build_nats, longest_silence
from onetrip.app.schema import ClusterTlsEntry, NatsEntry
from onetrip.errors import ConfigError

SERVERS = ["nats://127.0.0.1:4222"]
SEED = "SU" + "A" * 56


def entry(**fields: object) -> NatsEntry:
    return NatsEntry(**({"servers": SERVERS} | fields))


def test_nothing_configured_is_nothing(tmp_path: Path) -> None:
    assert build_nats(None, tmp_path, "den", has_secret=False) is None
    assert longest_silence(None, 1.0, 330) == 0.0


def test_names_of_the_region_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "den.password").write_text("a very long password")
    found = build_nats(
        entry(user="{region}-node", password_file="{region}.password"), tmp_path, "den", True
    )
    assert found is not None
    assert (found.user, found.password) == ("den-node", "a very long password")
    assert (found.prefix, found.replicas) == ("onetrip", 1)
    assert longest_silence(found, 1.0, 330) == pytest.approx(16.5)


def test_a_seed_is_a_file_that_is_read_at_each_connection(tmp_path: Path) -> None:
    (tmp_path / "den.nk").write_text(SEED)
    found = build_nats(entry(nkey_file="{region}.nk"), tmp_path, "den", True)
    assert found is not None
    assert found.nkey == tmp_path / "den.nk"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"servers": ["http://a:1"]}, r"cluster\.nats\.servers\[0\]: 'http://a:1' is not"),
        ({"servers": ["nats://user:pw@a:1"]}, r"servers\[0\]: 'a:1' is not"),
        ({"user": "den"}, "user and password_file or password_env go together"),
        ({"nkey_file": "none.nk"}, r"cluster\.nats\.nkey_file: .*none\.nk: No such file"),
        ({"nkey_file": "password"}, r"cluster\.nats\.nkey_file: .* is not the seed"),
        ({"credentials_file": "password"}, r"cluster\.nats\.credentials_file: .* is not a user's"),
        (
            {"user": "den", "password_file": "password", "nkey_file": "seed"},
            "only one of user, credentials_file and nkey_file",
        ),
        (
            {"tls": ClusterTlsEntry("none.pem", "none.pem", "none.key")},
            r"cluster\.nats\.tls\.ca: .*No such file",
        ),
    ],
)
def test_what_cannot_be_used_names_its_key(
    tmp_path: Path, fields: dict[str, object], reason: str
) -> None:
    (tmp_path / "password").write_text("a very long password")
    (tmp_path / "seed").write_text(SEED)
    with pytest.raises(ConfigError, match=reason) as failure:
        build_nats(entry(**fields), tmp_path, "den", True)
    assert "long password" not in str(failure.value)


def test_a_cluster_secret_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret_file or secret_env is required"):
        build_nats(entry(), tmp_path, "den", has_secret=False)
