"""The configuration: what is accepted, and the one line that says what is wrong."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.app.limits import build_filters
from onetrip.errors import ConfigError
from onetrip.model.catalog import EnvironmentId, Hedge, Mode
from onetrip.proxy.settings import ProxySettings

GOOD = """
regions:
  den: {title: Denver, position: [39.74, -104.99], proxy: 127.0.0.1:8001}
  bom: {title: Mumbai, node: {listen: "127.0.0.1:8002", admin: "127.0.0.1:9402"}}
backends:
  orders-db: {kind: postgres, address: "10.0.0.5:5432"}
projects:
  shop:
    placement: {mode: off, control: 0.05}
    environments:
      production:
        hosts: [Shop.Example.com., "*.shop.example.com"]
        bindings: {db: orders-db}
        instances: {den: ["127.0.0.1:9000"], bom: ["[::1]:9000", "https://app.example.com"]}
        routes:
          - {path: /static/**, local: true}
          - {path: /orders/*, round_trips: {db: 11}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "onetrip.yaml"
    path.write_text(text)
    return path


def changed(tmp_path: Path, place: str, value: object) -> Path:
    """Write the good file with the value at a dotted place replaced (or added)."""
    data = yaml.safe_load(GOOD.replace("mode: off", "mode: 'off'"))
    *parents, last = place.split(".")
    node = data
    for name in parents:
        node = node[name] if name in node else node.setdefault(name, {})
    node[last] = value
    return write(tmp_path, yaml.safe_dump(data, sort_keys=False))


@pytest.mark.parametrize("was_enabled", [True, False])
@pytest.mark.parametrize("text", [GOOD, "regions: 7"])
def test_reading_leaves_the_garbage_collector_as_it_was(
    tmp_path: Path, text: str, was_enabled: bool
) -> None:
    path = write(tmp_path, text)
    (gc.enable if was_enabled else gc.disable)()
    try:
        with contextlib.nullcontext() if text == GOOD else pytest.raises(ConfigError):
            load_settings(path, "bom")
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()


def test_good_file_becomes_settings(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD), "bom")
    assert settings.region == "bom"
    assert str(settings.listen) == "127.0.0.1:8002"
    project = settings.catalog.projects["shop"]
    assert project.policy.mode is Mode.OFF, "`off` is text, not YAML 1.1's false"
    env = project.environments["production"]
    assert env.id == EnvironmentId("shop", "production")
    assert env.hosts == ("shop.example.com", "*.shop.example.com")
    assert [str(i.endpoint) for i in env.instances] == [
        "127.0.0.1:9000",
        "[::1]:9000",
        "app.example.com:443",
    ]
    assert env.instances[2].endpoint.tls_name == "app.example.com"
    assert env.rules[1].round_trips == {"db": 11.0}


def test_ejection_and_slow_start_become_settings(tmp_path: Path) -> None:
    path = changed(tmp_path, "proxy", {"ejection": {"max_share": 0.2}, "slow_start": 0})
    proxy = load_settings(path, "den").proxy
    assert (proxy.ejection.max_share, proxy.ejection.base_time, proxy.slow_start) == (0.2, 30, 0)


def test_health_thresholds_become_settings(tmp_path: Path) -> None:
    path = changed(tmp_path, "probe", {"unhealthy_after": 5, "healthy_after": 2})
    probe = load_settings(path, "den").probe
    assert (probe.failing_after, probe.recovered_after) == (5, 2)
    filters = build_filters(probe)
    assert (filters.failing_after, filters.recovered_after, filters.max_age) == (5, 2, 30.0)


@pytest.mark.parametrize(("health_path", "needs"), [(None, False), ("/", True), ("/up", True)])
def test_only_a_declared_health_path_needs_a_success(
    tmp_path: Path, health_path: str | None, needs: bool
) -> None:
    path = changed(tmp_path, "projects.shop.environments.production.health_path", health_path)
    env = load_settings(path, "den").catalog.projects["shop"].environments["production"]
    assert (env.health_path, env.needs_healthy_answer) == (health_path or "/", needs)


@pytest.mark.parametrize(
    ("own", "default", "limit"), [(None, None, None), (None, 5, 5), (2, 5, 2), (0, 5, 0)]
)
def test_time_limit_of_an_environment_goes_before_the_node_s(
    tmp_path: Path, own: float | None, default: float | None, limit: float | None
) -> None:
    changed(tmp_path, "projects.shop.environments.production.request_timeout", own)
    path = tmp_path / "onetrip.yaml"
    data = yaml.safe_load(path.read_text())
    data["proxy"] = {"request_timeout": default}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    env = load_settings(path, "den").catalog.projects["shop"].environments["production"]
    assert env.request_timeout == limit


@pytest.mark.parametrize(
    ("entry", "hedge"),
    [
        ({"after": "p95"}, Hedge(None, 0.95, 0.05)),
        ({"after": 0.2, "max_ratio": 0.1}, Hedge(0.2, 0.95, 0.1)),
    ],
)
def test_hedge_becomes_the_project_s(
    tmp_path: Path, entry: dict[str, object], hedge: Hedge
) -> None:
    settings = load_settings(changed(tmp_path, "projects.shop.hedge", entry), "den")
    assert settings.catalog.projects["shop"].hedge == hedge


def test_defaults_of_the_file_are_those_of_the_proxy(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, GOOD), "den").proxy == ProxySettings()


def test_one_region_needs_no_name(tmp_path: Path) -> None:
    path = write(tmp_path, "regions: {here: {}}\n")
    assert load_settings(path).region == "here"


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("listne", "x", "(top): unknown key `listne`"),
        ("projects.shop.placemnt", {}, "projects.shop: unknown key `placemnt`"),
        (
            "projects.shop.placement.mode",
            "fast",
            "projects.shop.placement.mode: Invalid enum value 'fast'",
        ),
        ("projects.shop.placement.control", 0.9, "placement.control: Expected `float` <= 0.5"),
        (
            "projects.shop.environments.production.hots",
            ["a"],
            "projects.shop.environments.production: unknown key `hots`",
        ),
        ("projects.shop.placement.hint", "par", "region 'par' is not one of den, bom"),
        ("projects.shop.placement.deny", ["den", "bom"], "allow and deny leave no region"),
        (
            "projects.shop.environments.production.instances",
            {"par": ["127.0.0.1:1"]},
            "instances.par: region 'par' is not one of den, bom",
        ),
        (
            "projects.shop.environments.production.instances",
            {"den": ["127.0.0.1:0"]},
            "instances.den[0]: port of '127.0.0.1:0' is not in 1-65535",
        ),
        (
            "projects.shop.environments.production.bindings",
            {"db": "nope"},
            "bindings.db: backend 'nope' is not one of orders-db",
        ),
        (
            "projects.shop.environments.production.hosts",
            ["http://x"],
            "hosts[0]: 'http://x' is not a host name",
        ),
        (
            "projects.shop.environments.production.routes",
            [{"path": "/a/**/b"}],
            "routes[0].path: ** of '/a/**/b' is not the last segment",
        ),
        (
            "projects.shop.environments.production.routes",
            [{"path": "/a", "round_trips": {"cache": 1}}],
            "routes[0].round_trips.cache: binding is not one of db",
        ),
        ("backends.Bad_Name", {"kind": "tcp", "address": "a:1"}, "backends.Bad_Name"),
        ("admin.listen", "0.0.0.0:9400", "admin.token_file or admin.token_env is required"),
        ("cluster.listen", "127.0.0.1:9401", "secret_file or secret_env is required"),
        ("cluster.secret_env", "ONETRIP_TEST_UNSET", "ONETRIP_TEST_UNSET is not set"),
        ("region", "par", "region: 'par' is not one of den, bom"),
        ("source_address", "example.com", "source_address: 'example.com' is not an IP address"),
        ("proxy.trusted_proxies", ["10.0.0.0/33"], "trusted_proxies[0]"),
        ("proxy.proxy_protocol", "required", "'required' needs proxy.trusted_proxies"),
        ("proxy.proxy_protocol", "v2", "proxy.proxy_protocol: Invalid enum value 'v2'"),
        ("proxy.target_limit", 100_000, "proxy.target_limit"),
        ("proxy.ejection", {"max_time": 10}, "proxy.ejection.max_time of 10 is below"),
        ("proxy.ejection", {"max_shar": 0.1}, "proxy.ejection: unknown key `max_shar`"),
        ("projects.shop.hedge", {"after": "p100"}, "projects.shop.hedge.after"),
        ("projects.shop.hedge", {"after": "p95", "max_ratio": 0.9}, "hedge.max_ratio"),
        ("regions.den.position", [200.0, 0.0], "regions.den.position"),
    ],
)
def test_bad_value_is_one_line_with_file_key_and_reason(
    tmp_path: Path, place: str, value: object, reason: str
) -> None:
    path = changed(tmp_path, place, value)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, None if place == "region" else "den")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert reason in text
    assert "\n" not in text


def test_host_claimed_twice_names_both_owners(tmp_path: Path) -> None:
    twin = yaml.safe_load(GOOD)["projects"]["shop"]
    twin["placement"] = {"mode": "smart"}
    with pytest.raises(ConfigError, match=r"already belongs to shop/production"):
        load_settings(changed(tmp_path, "projects.other", twin), "den")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("regions: {a: {}, a: {}}", "line 1: key 'a' is written twice"),
        ("regions: [", "not YAML"),
        ("{1: 2}", "key 1 is not text"),
        ("- a", "Expected `object`, got `array`"),
        ("", "regions: at least one region is required"),
        ("regions: {a: &x {}, b: *y}", "not YAML"),
        ("regions: !!python/object:os.system {}", "not YAML"),
    ],
)
def test_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"onetrip\.yaml: ") as caught:
        load_settings(write(tmp_path, text), "den")
    assert reason in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "nope.yaml")


def test_short_secret_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONETRIP_TEST_SECRET", "hunter2")
    with pytest.raises(ConfigError, match="7 bytes is below limit of 16") as caught:
        load_settings(changed(tmp_path, "cluster.secret_env", "ONETRIP_TEST_SECRET"), "den")
    assert "hunter2" not in str(caught.value)


class TestProtocol:
    PLACE = "projects.shop.environments.production.protocol"

    def protocols(self, path: Path) -> list[str]:
        env = load_settings(path, "den").catalog.projects["shop"].environments["production"]
        return [instance.endpoint.protocol.value for instance in env.instances]

    def test_instances_speak_http1_unless_told(self, tmp_path: Path) -> None:
        assert self.protocols(write(tmp_path, GOOD)) == ["http1"] * 3

    def test_h2_is_for_all_and_auto_only_where_tls_can_tell(self, tmp_path: Path) -> None:
        assert self.protocols(changed(tmp_path, self.PLACE, "h2")) == ["h2"] * 3
        assert self.protocols(changed(tmp_path, self.PLACE, "auto")) == ["http1", "http1", "auto"]

    def test_one_instance_speaks_one_protocol(self, tmp_path: Path) -> None:
        other = {"hosts": ["b.test"], "instances": {"den": ["127.0.0.1:9000"]}, "protocol": "h2"}
        path = changed(tmp_path, "projects.shop.environments.preview", other)
        with pytest.raises(ConfigError, match=r"preview\.protocol: 127\.0\.0\.1:9000 is http1"):
            load_settings(path, "den")


def test_http2_between_nodes_needs_their_tls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.http2: needs cluster\.tls"):
        load_settings(changed(tmp_path, "cluster.http2", True), "den")
