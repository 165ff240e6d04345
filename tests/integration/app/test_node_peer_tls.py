"""A cluster whose nodes talk over TLS: forwarding, probes, reports, reload, bad configuration."""

from __future__ import annotations

import shutil
from io import StringIO
from types import SimpleNamespace

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.app.refusals import MAX_REMEMBERED, QUIET, RefusalLog, unraisable_hook
from onetrip.errors import ConfigError
from onetrip.model.measure import EstimateState
from onetrip.observe.logs import Log
from support.certs import Authority
from support.clock import VirtualClock
from support.cluster import DELAYS, running
from support.waits import eventually


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("made"))
    for region in DELAYS:
        authority.issue(f"node-{region}", f"{region}.onetrip")
    authority.issue("one-sided", "den.onetrip", usage="serverAuth")
    return authority


@pytest.fixture
def folder(made, tmp_path):
    for file in made.folder.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def hears(cluster, edge) -> bool:
    return all(peer.is_alive for peer in cluster.node(edge).view.peers())


def refusals(cluster, edge) -> list[str]:
    events = cluster.node(edge).view.events(50)
    return [event.detail for event in events if event.name == "cluster.peer_refused"]


def peer_rtt(cluster, edge):
    rows = cluster.node(edge).scorer.rows[edge]
    return next((e for t, e in rows.items() if t.kind.value == "peer"), None)


def is_failing(cluster, edge) -> bool:
    estimate = peer_rtt(cluster, edge)
    return estimate is not None and estimate.state is EstimateState.FAILING


def is_fresh(cluster, edge) -> bool:
    estimate = peer_rtt(cluster, edge)
    return estimate is not None and estimate.state is EstimateState.FRESH


class TestCluster:
    async def test_requests_reports_and_probes_go_over_tls(self, folder, made):
        async with running(folder, authority=made, mode="smart", hint="bom") as cluster:
            await eventually(lambda: hears(cluster, "den") and hears(cluster, "bom"))
            await eventually(lambda: peer_rtt(cluster, "den") is not None)
            assert peer_rtt(cluster, "den").state is EstimateState.FRESH
            assert set(await cluster.many("den", "/about", 8)) == {"remote-bom"}
            assert refusals(cluster, "den") == refusals(cluster, "bom") == []
            endpoint = cluster.node("den").settings.topology.regions["bom"].proxy
            assert endpoint.tls_name == "bom.onetrip"

    async def test_nodes_share_connections_over_http2(self, folder, made):
        async with running(folder, authority=made, mode="smart", hint="bom") as cluster:
            for region in ("den", "bom"):
                config = yaml.safe_load(cluster.path_of(region).read_text())
                config["cluster"]["http2"] = True
                cluster.path_of(region).write_text(yaml.safe_dump(config))
                await cluster.node(region).reload()
            await eventually(lambda: hears(cluster, "den") and hears(cluster, "bom"))
            await eventually(lambda: is_fresh(cluster, "den"))
            assert set(await cluster.many("den", "/about", 8)) == {"remote-bom"}
            registry = cluster.node("den").metrics.registry
            name = "onetrip_proxy_upstream_http2_streams_total"
            assert registry.get_sample_value(name) >= 8

    async def test_reload_renews_the_nodes_certificate(self, folder, made):
        async with running(folder, authority=made, mode="smart", hint="bom") as cluster:
            await eventually(lambda: hears(cluster, "den"))
            before = cluster.node("bom").proxy.peer_contexts
            renewed = Authority(folder, "renewed")  # of an authority that den does not know
            renewed.issue("node-bom", "bom.onetrip")
            with pytest.raises(ConfigError, match=r"cluster\.tls\.cert"):
                await cluster.node("bom").reload()
            assert cluster.node("bom").proxy.peer_contexts is before
            for file in ("node-bom.pem", "node-bom.key"):
                shutil.copy(made.folder / file, folder)
            await cluster.node("bom").reload()
            assert cluster.node("bom").proxy.peer_contexts is not before
            assert set(await cluster.many("den", "/about", 8)) == {"remote-bom"}
            assert hears(cluster, "den")

    async def test_node_of_another_authority_is_refused_and_told_about(self, folder, made):
        async with running(folder, authority=made, mode="smart", hint="bom") as cluster:
            await cluster.stop_node("den")
            stranger = Authority(folder, "stranger")
            stranger.issue("node-den", "den.onetrip")
            config = yaml.safe_load(cluster.path_of("den").read_text())
            both = folder / "both.pem"  # den trusts bom, bom does not trust den
            both.write_bytes(stranger.file.read_bytes() + made.file.read_bytes())
            config["cluster"]["tls"]["ca"] = str(both)
            cluster.path_of("den").write_text(yaml.safe_dump(config))
            await cluster.start_node("den")
            await eventually(lambda: any("certificate" in d for d in refusals(cluster, "bom")))
            assert not hears(cluster, "den")
            await eventually(lambda: is_failing(cluster, "den"))
            assert set(await cluster.many("den", "/about", 8)) == {"local-den"}

    async def test_plain_node_is_refused_and_told_about(self, folder, made):
        async with running(folder, authority=made, mode="smart", hint="bom") as cluster:
            await cluster.stop_node("den")
            config = yaml.safe_load(cluster.path_of("den").read_text())
            del config["cluster"]["tls"], config["regions"]["den"]["node"]["forward_listen"]
            del config["regions"]["bom"]["node"]["forward_listen"]
            cluster.path_of("den").write_text(yaml.safe_dump(config))
            await cluster.start_node("den")
            await eventually(lambda: any(d.startswith("plain") for d in refusals(cluster, "bom")))
            assert not hears(cluster, "den")

    async def test_reload_does_not_turn_tls_on_or_off(self, folder, made):
        async with running(folder, authority=made) as cluster:
            config = yaml.safe_load(cluster.path_of("den").read_text())
            del config["cluster"]["tls"]
            for region in config["regions"].values():
                del region["node"]["forward_listen"]
            cluster.path_of("den").write_text(yaml.safe_dump(config))
            with pytest.raises(ConfigError, match="on or off needs a restart"):
                await cluster.node("den").reload()


class TestConfigErrors:
    def load(self, folder, made, *, drop=(), **tls):
        files = {"ca": str(made.file), "cert": "node-{region}.pem", "key": "node-{region}.key"}
        (folder / "secret").write_text("a shared secret for tests")
        den = {"proxy": "127.0.0.1:1", "node": {"forward_listen": "127.0.0.1:1"}}
        config = {
            "region": "den",
            "cluster": {"secret_file": "secret", "tls": files | tls},
            "regions": {"den": den, "bom": {"proxy": "127.0.0.1:2"}},
        }
        for group, key in drop:
            del (config if group == "cluster" else den)[group][key]
        path = folder / "x.yaml"
        path.write_text(yaml.safe_dump(config))
        return load_settings(path)

    def test_peers_are_dialled_by_their_own_names(self, folder, made):
        regions = self.load(folder, made).topology.regions
        assert {r.proxy.tls_name for r in regions.values()} == {"den.onetrip", "bom.onetrip"}

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"ca": "none.pem"}, "cluster.tls.ca: {}/none.pem cannot be read"),
            ({"key": "node-bom.key"}, "cluster.tls.key: {}/node-bom.key does not belong"),
            (
                {"cert": "node-bom.pem", "key": "node-bom.key"},
                "cluster.tls.cert: {}/node-bom.pem: Hostname mismatch",
            ),
            (
                {"cert": "one-sided.pem", "key": "one-sided.key"},
                "cluster.tls.cert: {}/one-sided.pem: unsuitable certificate purpose",
            ),
            ({"ca": "node-bom.pem"}, "cluster.tls.cert: {}/node-den.pem: unable to get"),
        ],
    )
    def test_unusable_identity_is_one_line(self, folder, made, files, message):
        with pytest.raises(ConfigError) as caught:
            self.load(folder, made, **files)
        assert message.format(folder) in str(caught.value)

    @pytest.mark.parametrize(
        ("drop", "message"),
        [
            (("node", "forward_listen"), "cluster.forward_listen: required with cluster.tls"),
            (("cluster", "tls"), "cluster.forward_listen: needs cluster.tls"),
            (("cluster", "secret_file"), "required with cluster.tls"),
        ],
    )
    def test_half_a_setting_is_refused(self, folder, made, drop, message):
        with pytest.raises(ConfigError, match=message):
            self.load(folder, made, drop=[drop])


def test_unraisable_errors_are_logged_once_a_minute():
    lines = StringIO()
    hook = unraisable_hook(Log(lines, "info", lambda: 0.0), VirtualClock())
    error = UnicodeDecodeError("ascii", b"\xff", 0, 1, "secret of a client")
    for _ in range(100):
        hook(SimpleNamespace(exc_type=type(error), exc_value=error, object=b"\xff"))
    assert lines.getvalue().count("\n") == 1
    assert '"app.unraisable","error":"UnicodeDecodeError","at":"bytes"' in lines.getvalue()


class TestRefusalLog:
    def test_the_same_refusal_is_told_once_a_minute(self):
        clock, told = VirtualClock(), []
        log = RefusalLog(clock, lambda *refusal: told.append(refusal))
        for _ in range(5):
            log.note("10.0.0.1", "plain", "x")
        log.note("10.0.0.1", "certificate", "x")
        log.note("10.0.0.2", "plain", "x")
        assert len(told) == 3
        clock.step(QUIET)
        log.note("10.0.0.1", "plain", "x")
        assert len(told) == 4

    def test_memory_is_bounded(self):
        log = RefusalLog(VirtualClock(), lambda *refusal: None)
        for number in range(3 * MAX_REMEMBERED):
            log.note(f"10.0.0.{number}", "plain", "x")
        assert len(log._told_at) <= MAX_REMEMBERED
