"""The file of a routing relay: what it says, and how it is refused."""

import base64
from pathlib import Path

import pytest

from onetrip.app.config_route import load_route
from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip.relay.route_settings import Others, PoolMode
from onetrip.wire.scram import Verifier
from support.certs import Authority

BASE = """
primary: {address: "db.eu:5432", tls: off}
accounts:
  shop: {password_file: shop.password}
"""


def load(folder: Path, text: str):
    (folder / "shop.password").write_text("geheim\n")
    path = folder / "route.yaml"
    path.write_text(text)
    return load_route(path)


def test_the_least_file(tmp_path: Path) -> None:
    found = load(tmp_path, BASE)
    (primary,) = found.endpoints
    assert (primary.name, primary.at, primary.tls) == ("primary", Endpoint("db.eu", 5432), None)
    account = found.accounts["shop"]
    assert (account.user, account.password) == ("shop", "geheim")
    assert account.verifier == Verifier.of("geheim", account.verifier.salt)
    assert (found.watch, found.watch_database) == ("shop", "postgres")
    assert (found.mode, found.others) == (PoolMode.TRANSACTION, Others.REFUSE)
    assert (found.client_tls, found.api) == (None, None)
    assert "geheim" not in repr(found)


def test_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("relay", "db.example")
    made = Verifier.of("other", b"0123456789abcdef")
    salt, stored, server = (
        base64.b64encode(part).decode() for part in (made.salt, made.stored_key, made.server_key)
    )
    (tmp_path / "web.verifier").write_text(f"SCRAM-SHA-256$4096:{salt}${stored}:{server}\n")
    monkeypatch.setenv("WEB_LOGIN", "own")
    monkeypatch.setenv("API_TOKEN", "a-token-of-the-api")
    found = load(
        tmp_path,
        f"""
primary: {{address: "db.eu:5432", ca: {authority.file}, tls_name: db.example}}
replicas:
  near: {{address: "db.us:5432"}}
accounts:
  shop: {{password_file: shop.password}}
  web: {{verifier_file: web.verifier, login: {{user: reader, password_env: WEB_LOGIN}}}}
watch: {{account: web, database: shop, interval: 0.5, least: 0.02}}
pool: {{mode: session, size: 3, waiting: 4, wait: 1, idle: 60, lifetime: 600}}
reads: {{wait: 0.3, functions: [app.Total]}}
tls: {{cert: {pair.cert}, key: {pair.key}}}
api: {{listen: "0.0.0.0:6433", token_env: API_TOKEN}}
""",
    )
    primary, near = found.endpoints
    assert (primary.tls_name, near.tls_name) == ("db.example", "db.us")
    assert primary.tls is not None
    assert near.tls is not None
    web = found.accounts["web"]
    assert (web.verifier, web.user, web.password) == (made, "reader", "own")
    assert (found.watch, found.check_interval, found.check_least) == ("web", 0.5, 0.02)
    assert (found.mode, found.pool.size, found.pool.lifetime) == (PoolMode.SESSION, 3, 600)
    assert (found.replica_wait, found.functions) == (0.3, ("app.total",))
    assert found.client_tls is not None
    assert (found.api, found.api_token) == (Endpoint("0.0.0.0", 6433), "a-token-of-the-api")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("color: red", "unknown key"),
        ("accounts: {shop: {}}", "accounts.shop: set one of"),
        ("accounts: {shop: {password_file: gone}}", "accounts.shop.password_file: gone"),
        ("accounts: {shop: {password_env: NOT_SET_HERE}}", "accounts.shop.password_env"),
        ("accounts: {shop: {verifier_file: shop.password}}", "holds not a SCRAM-SHA-256 verifier"),
        ("accounts: {}", "accounts: "),
        ("watch: {account: nobody}", "watch.account: 'nobody'"),
        ("replicas: {primary: {address: 'a:1'}}", "replicas.primary"),
        ("replicas: {near: {address: here}}", "replicas.near.address"),
        ("replicas: {near: {address: 'a:1', tls: off, ca: x}}", "replicas.near.tls"),
        ("replicas: {near: {address: 'a:1', ca: gone.pem}}", "replicas.near.ca: gone.pem"),
        ("replicas: {near: {address: 'a:1'}}\nothers: pass", "others: "),
        ("pool: {size: 0}", "pool.size"),
        ("reads: {wait: 61}", "reads.wait"),
        ("tls: {cert: gone.pem, key: gone.pem}", "tls.cert: "),
        ("api: {listen: '0.0.0.0:1'}", "api.listen: 0.0.0.0 is not loopback"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, change: str, reason: str) -> None:
    text = BASE
    if change.startswith("accounts"):
        text = text[: text.index("accounts")]
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"{text}{change}\n")
    assert str(error.value).startswith(f"{tmp_path / 'route.yaml'}: ")
    assert reason in str(error.value)
    assert "geheim" not in str(error.value)
