"""A node that orders certificates: issue, renewal, restart, and every way it can fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import stat
import time

import aiohttp
import pytest
import yaml
from aiohttp import web

from onetrip.acme.session import CALL_TIMEOUT
from support.acme_checks import ProblemError
from support.acme_node import acme_node
from support.acme_server import running_acme
from support.ports import free_ports
from support.waits import eventually

DAY = 86400.0
ORDERS = "onetrip_acme_orders_total"


@contextlib.asynccontextmanager
async def authority(folder, **more):
    http, tls = free_ports(2)
    async with running_acme(folder, http, tls, **more) as server:
        yield server


def ordering(server, **more):
    return {"directory": server.directory, "ca_file": "ca.pem"} | more


def node_of(server, *, hosts=("shop.test",), tls=None, **acme):
    ports = {"http_port": server.http_port, "tls_port": server.tls_port}
    return acme_node(server.folder, ordering(server, **acme), hosts=hosts, **ports, **(tls or {}))


async def issued(rig, domain="shop.test"):
    await eventually(lambda: rig.status(domain).expires_at is not None)


async def failed(rig, domain="shop.test"):
    await eventually(lambda: rig.status(domain).failures > 0)
    return rig.status(domain)


class TestIssue:
    @pytest.mark.parametrize(
        ("challenge", "key_type"), [("http-01", "p384"), ("tls-alpn-01", "rsa2048")]
    )
    async def test_certificate_is_issued_and_served(self, tmp_path, challenge, key_type):
        order = {"challenge": challenge, "key_type": key_type}
        async with authority(tmp_path) as server, node_of(server, **order) as rig:
            await issued(rig)
            found = await rig.subject(server.root_pem())
            assert found["subjectAltName"] == (("DNS", "shop.test"),)
            status = rig.status()
            assert (status.state.value, status.issuer) == ("valid", "Strict test authority")
            assert status.renew_at == pytest.approx(time.time() + 60 * DAY, abs=4 * DAY)
            assert rig.metric(ORDERS, outcome="issued") == 1
            assert rig.metric("onetrip_acme_certificates", state="valid") == 1
            assert "acme.certificate_issued" in rig.events()

    async def test_answer_is_gone_after_the_order(self, tmp_path):
        async with authority(tmp_path) as server, node_of(server) as rig:
            await issued(rig)
            target = f"/.well-known/acme-challenge/{server.orders[0].token}"
            reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 308 ")
            writer.close()

    async def test_account_is_bound_to_one_that_the_authority_knows(self, tmp_path):
        key = "c2VjcmV0IGtleSBvZiBhbiBhY2NvdW50IGZvciB0ZXN0cw"
        (tmp_path / "hmac").write_text(key + "\n")
        eab = {"kid": "kid", "hmac_file": "hmac"}
        rigged = authority(tmp_path, accounts_required={"kid": key})
        async with rigged as server, node_of(server, eab=eab) as rig:
            await issued(rig)
            assert key not in rig.log.getvalue()

    async def test_reload_orders_for_a_new_domain(self, tmp_path):
        async with authority(tmp_path) as server, node_of(server) as rig:
            await issued(rig)
            path = tmp_path / "onetrip.yaml"
            config = yaml.safe_load(path.read_text())
            config["projects"]["shop"]["environments"]["production"]["hosts"].append("b.test")
            path.write_text(yaml.safe_dump(config))
            assert "restart" not in await rig.node.reload()
            await issued(rig, "b.test")
            assert (await rig.subject(server.root_pem(), "b.test"))["subjectAltName"]
            assert (await rig.subject(server.root_pem()))["subjectAltName"]

    async def test_domain_that_is_added_through_the_api_gets_its_own(self, tmp_path):
        async with authority(tmp_path) as server, node_of(server) as rig:
            await issued(rig)
            path = "/v1/projects/shop/domains"
            async with aiohttp.ClientSession(f"http://127.0.0.1:{rig.node.admin_port}") as api:
                async with api.post(path, json={"host": "custom.test"}) as reply:
                    assert reply.status == 201
                await issued(rig, "custom.test")
                assert (await rig.subject(server.root_pem(), "custom.test"))["subjectAltName"]
                async with api.get(path) as reply:
                    rows = {row["host"]: row for row in (await reply.json())["domains"]}
                assert rows["custom.test"]["certificate"] == "valid"
                async with api.delete(f"{path}/custom.test") as reply:
                    assert reply.status == 204
            names = [name for each in rig.node.view.certificates() for name in each.names]
            assert names == ["shop.test"]

    async def test_files_and_keys_are_for_their_owner_alone(self, tmp_path):
        async with authority(tmp_path) as server, node_of(server) as rig:
            await issued(rig)
            files = [f for f in (tmp_path / "data").rglob("acme/*/*") if f.is_file()]
            assert sorted(f.name for f in files) == ["account.key", "shop.test.pem"]
            for file in files:
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                secret = file.read_text().splitlines()[1]
                assert secret not in rig.log.getvalue()
            assert "PRIVATE" not in rig.log.getvalue()


class TestRenewal:
    async def test_restart_reuses_account_and_certificate(self, tmp_path):
        async with authority(tmp_path) as server:
            async with node_of(server) as rig:
                await issued(rig)
                before = await rig.subject(server.root_pem())
            async with node_of(server) as rig:
                after = await rig.subject(server.root_pem())
            assert after["serialNumber"] == before["serialNumber"]
            assert len(server.orders) == len(server.accounts) == 1

    async def test_certificate_is_renewed_without_dropping_a_connection(self, tmp_path):
        async with authority(tmp_path) as server, node_of(server) as rig:
            await issued(rig)
            first = await rig.subject(server.root_pem())
            context = ssl.create_default_context(cadata=server.root_pem())
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.tls_port, ssl=context, server_hostname="shop.test"
            )
            held = rig.node._certificates._source._held["shop.test"]
            held.retry_at = 0.0  # the pause after an order is over
            rig.clock.ahead = 70 * DAY
            await rig.check()
            await eventually(lambda: rig.metric(ORDERS, outcome="issued") == 2)
            second = await rig.subject(server.root_pem())
            assert second["serialNumber"] != first["serialNumber"]
            assert len(server.accounts) == 1
            writer.write(b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()

    async def test_authority_says_when_to_renew(self, tmp_path):
        now = time.time()
        window = (now + 9 * DAY, now + 10 * DAY)
        async with authority(tmp_path, window=window) as server, node_of(server) as rig:
            await issued(rig)
            await rig.check()
            soon = now + 10 * DAY
            await eventually(lambda: rig.status().renew_at <= soon)
            assert rig.status().renew_at >= now + 9 * DAY - 1


class TestFailure:
    async def test_one_domain_that_is_refused_holds_up_no_other(self, tmp_path):
        async with authority(tmp_path) as server:
            server.fail("order", ProblemError("rejectedIdentifier", "not yours"))
            async with node_of(server, hosts=("a.test", "b.test")) as rig:
                await eventually(lambda: rig.metric(ORDERS, outcome="issued") == 1)
                await eventually(lambda: rig.metric(ORDERS, outcome="refused") == 1)
                found = {s.state.value: s for s in rig.node.view.certificates()}
                assert set(found) == {"valid", "failing"}
                assert found["failing"].error.endswith("(rejectedIdentifier): not yours")
                assert "acme.order_failed" in rig.events()

    async def test_handshake_is_refused_until_a_certificate_is_there(self, tmp_path):
        async with authority(tmp_path) as server:
            server.fail("order", ProblemError("unauthorized"))
            async with node_of(server) as rig:
                await failed(rig)
                with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                    await rig.subject(server.root_pem())
                reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
                writer.write(b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 308 ")
                writer.close()

    async def test_unproven_domain_tells_what_the_authority_saw(self, tmp_path):
        async with authority(tmp_path) as server:
            server.http_port, right = free_ports(1)[0], server.http_port
            ports = {"http_port": right, "tls_port": server.tls_port}
            async with acme_node(tmp_path, ordering(server), **ports) as rig:
                status = await failed(rig)
                assert "shop.test was not validated" in status.error
                assert "ClientConnectorError" in status.error
                assert rig.metric(ORDERS, outcome="challenge") == 1

    async def test_rate_limit_is_kept(self, tmp_path):
        limited = ProblemError("rateLimited", "too many", status=429, retry_after="7200")
        async with authority(tmp_path) as server:
            server.fail("order", limited)
            async with node_of(server) as rig:
                status = await failed(rig)
                assert status.retry_at - time.time() == pytest.approx(7200, abs=60)
                await rig.check()
                assert server.seen.count("order") == 1

    async def test_bad_nonce_is_tried_again(self, tmp_path):
        async with authority(tmp_path) as server:
            for step in ("account", "order", "challenge", "finalize"):
                server.fail(step, ProblemError("badNonce"))
            async with node_of(server) as rig:
                await issued(rig)
                assert rig.status().failures == 0

    @pytest.mark.parametrize(
        ("reply", "outcome", "text"),
        [
            ({"text": "<html>"}, "malformed", "makes no sense"),
            ({"text": '{"newNonce": 3}'}, "malformed", "makes no sense"),
            ({"text": "[" * 300_000}, "malformed", "makes no sense"),
            ({"status": 503, "headers": {"Retry-After": "900"}}, "unavailable", "answered 503"),
        ],
    )
    async def test_bad_directory_is_a_typed_error(self, tmp_path, reply, outcome, text):
        async with authority(tmp_path) as server:
            server.fail("directory", web.Response(**reply))
            async with node_of(server, hosts=("a.test", "b.test")) as rig:
                await eventually(lambda: rig.metric(ORDERS, outcome=outcome) > 0)
                status = next(s for s in rig.node.view.certificates() if s.failures)
                assert text in status.error
                if "status" in reply:
                    assert status.retry_at - time.time() == pytest.approx(900, abs=60)
                # The others wait with it instead of asking as well.
                await rig.check()
                assert rig.metric(ORDERS, outcome=outcome) == 1
                assert not server.orders

    async def test_stranger_is_not_taken_for_the_authority(self, tmp_path):
        async with authority(tmp_path) as server:
            ports = {"http_port": server.http_port, "tls_port": server.tls_port}
            acme = {"directory": server.directory}
            async with acme_node(tmp_path, acme, **ports) as rig:
                status = await failed(rig)
                assert "the authority's own certificate is refused" in status.error

    async def test_certificate_for_another_key_is_not_served(self, tmp_path):
        async with authority(tmp_path) as server:
            server.fail("certificate", web.Response(text=server.root_pem()))
            async with node_of(server) as rig:
                status = await failed(rig)
                assert "the issued chain" in status.error
                assert not (list((tmp_path / "data").rglob("shop.test.pem")))

    async def test_silent_authority_does_not_delay_the_stop(self, tmp_path):
        http, tls = free_ports(2)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            acme = {"directory": f"https://127.0.0.1:{listener.getsockname()[1]}/"}
            async with asyncio.timeout(CALL_TIMEOUT - 5):
                async with acme_node(tmp_path, acme, http_port=http, tls_port=tls):
                    await asyncio.get_running_loop().sock_accept(listener)
