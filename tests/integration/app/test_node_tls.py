"""TLS of a whole node: the configuration's errors, reload without a drop, expiry told in time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from random import Random

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.app.expiry import ExpiryWatch
from onetrip.app.node import Node
from onetrip.errors import ConfigError
from onetrip.net.names import Names
from onetrip.net.tls import Certificate
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.certs import Authority
from support.clock import VirtualClock
from support.fake_upstream import FakeUpstream
from support.waits import BOUND, eventually

DAY = 86400.0
GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
WEB = {"cert": "web.pem", "key": "web.key"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of certificates, made once."""
    folder = tmp_path_factory.mktemp("made")
    authority = Authority(folder)
    authority.issue("web", "shop.test")
    authority.issue("new", "shop.test")
    authority.issue("old", "shop.test", days=-1)
    authority.issue("soon", "shop.test", days=5)
    authority.issue("nameless")
    authority.lock("web.key", "locked.key")
    (folder / "text.pem").write_text("no certificate")
    return authority


@pytest.fixture
def folder(made, tmp_path):
    for file in made.folder.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def write(folder, tls, instance="127.0.0.1:1", **more):
    environment = {"hosts": ["shop.test"], "instances": {"den": [str(instance)]}}
    config = {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"access": "off"},
        "regions": {"den": {}},
        "projects": {"shop": {"environments": {"production": environment}}},
        "tls": tls,
    }
    path = folder / "onetrip.yaml"
    path.write_text(yaml.safe_dump(config | more))
    return path


class TestConfigErrors:
    @pytest.mark.parametrize(
        ("tls", "message"),
        [
            ({"listen": ":0"}, "tls.certificates: at least one"),
            ({"certificates": [WEB]}, "tls.listen: certificates are set"),
            ({"redirect_http": True}, "tls.redirect_http: needs tls.listen"),
            ({"listen": "x", "certificates": [WEB]}, "tls.listen: 'x' is not host:port"),
            ({"listen": "127.0.0.1:0", "min_version": "1.1"}, "tls.min_version: Invalid enum"),
        ],
    )
    def test_listener_and_certificates_belong_together(self, folder, tls, message):
        with pytest.raises(ConfigError) as caught:
            load_settings(write(folder, tls))
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"cert": "nope.pem"}, "[0].cert: {}/nope.pem cannot be read: No such file"),
            ({"key": "nope.key"}, "[0].key: {}/nope.key cannot be read: No such file"),
            ({"cert": "text.pem"}, "[0].cert: {}/text.pem holds no 'BEGIN CERTIFICATE' line"),
            ({"key": "web.pem"}, "[0].key: {}/web.pem holds no 'PRIVATE KEY' line"),
            ({"key": "new.key"}, "[0].key: {0}/new.key does not belong to the certificate {0}/web"),
            (
                {"cert": "old.pem", "key": "old.key"},
                "[0].cert: {}/old.pem: certificate has expired",
            ),
            ({"cert": "nameless.pem", "key": "nameless.key"}, "names no host; set hosts"),
            ({"key": "locked.key"}, "[0].key: {}/locked.key is encrypted"),
            ({"hosts": ["Shop.test"]}, "[0].hosts[0]: 'Shop.test' is not a lower-case host"),
            ({"hosts": ["a.*.test"]}, "[0].hosts[0]: 'a.*.test' is not a lower-case host"),
        ],
    )
    def test_unusable_file_is_one_line_with_file_and_reason(self, folder, entry, message):
        tls = {"listen": "127.0.0.1:0", "certificates": [WEB | entry]}
        with pytest.raises(ConfigError) as caught:
            load_settings(write(folder, tls))
        assert message.format(folder) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_host_stated_for_two_certificates_is_refused(self, folder):
        entry = WEB | {"hosts": ["shop.test"]}
        tls = {"listen": "127.0.0.1:0", "certificates": [entry, entry]}
        with pytest.raises(ConfigError, match=r"\[1\].hosts\[0\]: 'shop.test' belongs to"):
            load_settings(write(folder, tls))

    def test_node_has_its_own_address(self, folder):
        tls = {"listen": "127.0.0.1:1", "certificates": [WEB], "redirect_http": True}
        regions = {"den": {"node": {"tls_listen": "127.0.0.2:2"}}}
        settings = load_settings(write(folder, tls, regions=regions))
        assert (str(settings.tls_listen), settings.https_port) == ("127.0.0.2:2", 2)


@contextlib.asynccontextmanager
async def running(folder, tls):
    async with FakeUpstream() as upstream:
        path = write(folder, tls, upstream.endpoint)
        node = Node(load_settings(path), log=silent_log(), rng=Random(1))
        try:
            await node.start()
            yield node, upstream
        finally:
            await node.stop(0.5)


async def connect(node, made):
    context = ssl.create_default_context(cafile=str(made.file))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", node.tls_port, ssl=context, server_hostname="shop.test"
    )
    subject = writer.get_extra_info("ssl_object").getpeercert()["subject"]
    return reader, writer, dict(pair[0] for pair in subject)["commonName"]


async def status(reader, writer) -> int:
    writer.write(GET)
    async with asyncio.timeout(BOUND):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
    return int(head.split()[1])


def events(node) -> list[tuple[str, str]]:
    return [(e.name, e.subject) for e in node.view.events(10)]


TLS = {"listen": "127.0.0.1:0", "certificates": [WEB]}


class TestReload:
    async def test_reload_swaps_certificates_without_dropping_a_connection(self, folder, made):
        async with running(folder, TLS) as (node, _):
            reader, writer, name = await connect(node, made)
            assert (name, await status(reader, writer)) == ("web", 200)
            shutil.copy(folder / "new.pem", folder / "web.pem")
            shutil.copy(folder / "new.key", folder / "web.key")
            assert "restart" not in await node.reload()
            *other, name = await connect(node, made)
            assert (name, await status(*other)) == ("new", 200)
            assert await status(reader, writer) == 200
            writer.close()
            other[1].close()

    async def test_unusable_certificate_leaves_the_old_one_in_use(self, folder, made):
        async with running(folder, TLS) as (node, _):
            shutil.copy(folder / "new.key", folder / "web.key")
            with pytest.raises(ConfigError, match="does not belong"):
                await node.reload()
            *ends, name = await connect(node, made)
            assert (name, await status(*ends)) == ("web", 200)
            ends[1].close()

    async def test_redirect_is_applied_live(self, folder, made):
        async with running(folder, TLS) as (node, upstream):
            write(folder, TLS | {"redirect_http": 443}, upstream.endpoint)
            await node.reload()
            reader, writer = await asyncio.open_connection("127.0.0.1", node.proxy_port)
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 308 ")
            assert b"Location: https://shop.test/a\r\n" in head
            writer.close()

    async def test_expiry_is_a_metric_and_an_event(self, folder):
        soon = {"cert": "soon.pem", "key": "soon.key"}
        tls = TLS | {"certificates": [WEB, soon | {"hosts": ["x.test"]}]}
        async with running(folder, tls) as (node, _):
            name = "onetrip_proxy_certificate_expiry_seconds"
            left = {
                file: node.metrics.registry.get_sample_value(
                    name, {"certificate": str(folder / file)}
                )
                for file in ("web.pem", "soon.pem")
            }
            assert left["web.pem"] == pytest.approx(30 * DAY, abs=3600)
            assert left["soon.pem"] == pytest.approx(5 * DAY, abs=3600)
            told = ("proxy.certificate_expiring", str(folder / "soon.pem"))
            await eventually(lambda: told in events(node))
            assert [name for name, _ in events(node)].count(told[0]) == 1


class TestHttp2:
    @pytest.mark.parametrize(("is_on", "chosen"), [(True, "h2"), (False, "http/1.1")])
    async def test_http2_is_offered_where_it_is_on(self, folder, made, is_on, chosen):
        async with running(folder, TLS | {"http2": is_on}) as (node, _):
            context = ssl.create_default_context(cafile=str(made.file))
            context.set_alpn_protocols(["h2", "http/1.1"])
            _, writer = await asyncio.open_connection(
                "127.0.0.1", node.tls_port, ssl=context, server_hostname="shop.test"
            )
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
            writer.close()


class TestExpiryWatch:
    async def test_notice_starts_a_fortnight_before_the_end(self):
        clock, told = VirtualClock(), []
        watch = ExpiryWatch(Metrics(), clock, lambda file, detail: told.append((file, detail)))
        watch.watch([Certificate("a.pem", Names(["a"]), clock.wall() + 15 * DAY)])
        await watch.check()
        assert told == []
        clock.step(2 * DAY)
        await watch.check()
        assert told == [("a.pem", "13.0 days left")]

    async def test_ordered_certificate_has_a_notice_of_its_own(self):
        clock, told = VirtualClock(), []
        watch = ExpiryWatch(Metrics(), clock, lambda file, detail: told.append((file, detail)))
        end = clock.wall() + 3 * DAY
        watch.watch([Certificate("a.pem", Names(["a"]), end, notice=DAY)])
        await watch.check()
        assert told == []
        clock.step(2.5 * DAY)
        await watch.check()
        assert told == [("a.pem", "0.5 days left")]

    def test_metric_of_a_certificate_no_longer_used_is_dropped(self):
        metrics, clock = Metrics(), VirtualClock()
        watch = ExpiryWatch(metrics, clock, lambda file, detail: None)
        watch.watch([Certificate("a.pem", Names(["a"]), clock.wall() + 7)])
        name = "onetrip_proxy_certificate_expiry_seconds"
        assert metrics.registry.get_sample_value(name, {"certificate": "a.pem"}) == 7
        watch.watch([])
        assert metrics.registry.get_sample_value(name, {"certificate": "a.pem"}) is None
