"""`tls.acme`: what is accepted, which domains it means, and the line that says what is wrong."""

from __future__ import annotations

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError

KEY = "c2VjcmV0IGtleSBvZiBhbiBhY2NvdW50"


def load(folder, acme, *, hosts=("shop.test",), **more):
    environment = {"hosts": list(hosts), "instances": {"den": ["127.0.0.1:9000"]}}
    config = {
        "data_dir": "data",
        "regions": {"den": {}},
        "projects": {"shop": {"environments": {"production": environment}}},
        "tls": {"listen": "127.0.0.1:0", "acme": {"agree_to_terms": True} | acme},
    }
    path = folder / "onetrip.yaml"
    path.write_text(yaml.safe_dump(config | more))
    return load_settings(path)


def test_defaults_are_lets_encrypt_and_the_hosts_of_the_projects(tmp_path):
    hosts = ("shop.test", "*.shop.test", "10.0.0.1", "localhost", "www.shop.test")
    acme = load(tmp_path, {}, hosts=hosts).acme
    assert acme.directory == "https://acme-v02.api.letsencrypt.org/directory"
    assert acme.domains == ("shop.test", "www.shop.test")
    assert acme.left_out == ("*.shop.test", "10.0.0.1", "localhost")
    assert (acme.challenge, acme.key_type) == ("http-01", "p256")
    assert acme.renew_ratio == pytest.approx(1 / 3)


def test_listed_domains_are_taken_instead(tmp_path):
    acme = load(tmp_path, {"domains": ["B.test.", "a.test", "b.test"]}).acme
    assert acme.domains == ("b.test", "a.test")
    assert acme.left_out == ("shop.test",)


def test_without_the_key_nothing_is_ordered(tmp_path):
    settings = load(tmp_path, {}, tls={})
    assert (settings.acme, settings.certificates) == (None, None)


@pytest.mark.parametrize(
    ("acme", "message"),
    [
        ({"agree_to_terms": False}, "tls.acme.agree_to_terms: must be true"),
        ({"directory": "http://ca.test/"}, "tls.acme.directory: Expected `str` matching"),
        ({"email": "nobody"}, "tls.acme.email: Expected `str` matching"),
        ({"challenge": "dns-01"}, "tls.acme.challenge: Invalid enum value"),
        ({"renew_before": 0.01}, "tls.acme.renew_before: Expected `float` >= 0.05"),
        ({"domains": ["*.shop.test"]}, "tls.acme.domains[0]: '*.shop.test' is not a public"),
        ({"domains": ["10.0.0.1"]}, "tls.acme.domains[0]: '10.0.0.1' is not a public"),
        ({"domains": ["a.test", "localhost"]}, "tls.acme.domains[1]: 'localhost' is not a"),
        ({"domains": ["-a.test"]}, "tls.acme.domains[0]: '-a.test' is not a public"),
        ({"ca_file": "none.pem"}, "none.pem cannot be read: No such file"),
        ({"ca_file": "onetrip.yaml"}, "holds no 'BEGIN CERTIFICATE' line"),
        ({"eab": {"kid": "k"}}, "tls.acme.eab: hmac_file or hmac_env is required"),
        ({"eab": {"kid": "k", "hmac_file": "short"}}, "secret of 5 bytes is below limit of 16"),
        ({"eab": {"kid": "k", "hmac_file": "odd"}}, "tls.acme.eab.hmac: is not base64url"),
        ({"eab": {"kid": "k", "hmac_env": "NOT_SET_ANYWHERE"}}, "NOT_SET_ANYWHERE is not set"),
        ({"colour": "red"}, "tls.acme: unknown key `colour`"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, acme, message):
    (tmp_path / "short").write_text("short")
    (tmp_path / "odd").write_text("!" * 20)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, acme)
    assert message in str(caught.value)


def test_orders_need_a_place_to_be_kept_and_one_to_be_served(tmp_path):
    with pytest.raises(ConfigError, match=r"tls\.acme: needs data_dir"):
        load(tmp_path, {}, data_dir=None)
    with pytest.raises(ConfigError, match=r"tls\.listen: certificates are set"):
        load(tmp_path, {}, tls={"acme": {"agree_to_terms": True}})


TWO = {"den": {"peer": "127.0.0.1:9401"}, "bom": {}}


@pytest.mark.parametrize(
    ("acme", "more", "message"),
    [
        ({}, {"region": "den"}, r"tls\.acme\.region: required with several regions"),
        ({"region": "fra"}, {"region": "den"}, r"tls\.acme\.region: 'fra' is not one of"),
        ({"region": "den"}, {"region": "den"}, r"tls\.acme: needs cluster\.tls"),
    ],
)
def test_of_several_regions_one_is_named(tmp_path, acme, more, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, acme, regions=TWO, **more)


def test_secret_is_kept_out_of_what_is_printed(tmp_path):
    (tmp_path / "hmac").write_text(f"{KEY}==\n")
    settings = load(tmp_path, {"eab": {"kid": "kid-1", "hmac_file": "hmac"}})
    assert settings.acme.external_account.hmac_key == KEY
    assert KEY not in repr(settings)
