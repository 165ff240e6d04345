"""Two nodes, one account: the authority comes to the node that did not order."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from random import Random

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.observe.logs import silent_log
from support.acme_server import running_acme
from support.certs import Authority
from support.nats_server import NatsServer
from support.ports import free_ports
from support.waits import eventually


def write(folder, server, challenge):
    """Write the one file of both nodes; `den` orders, `bom` is where the authority comes."""
    authority = Authority(folder, "nodes")
    for region in ("den", "bom"):
        authority.issue(region, f"{region}.onetrip")
    (folder / "secret").write_text("a shared secret for tests")
    den, bom, *listen = free_ports(8)
    regions = {
        "den": {
            "peer": f"127.0.0.1:{den}",
            "node": {
                "listen": f"127.0.0.1:{listen[0]}",
                "tls_listen": f"127.0.0.1:{listen[1]}",
                "peer_listen": f"127.0.0.1:{den}",
                "admin": f"127.0.0.1:{listen[2]}",
            },
        },
        "bom": {
            "peer": f"127.0.0.1:{bom}",
            "node": {
                "listen": f"127.0.0.1:{server.http_port}",
                "tls_listen": f"127.0.0.1:{server.tls_port}",
                "peer_listen": f"127.0.0.1:{bom}",
                "admin": f"127.0.0.1:{listen[3]}",
            },
        },
    }
    environment = {"hosts": ["shop.test"], "instances": {"den": ["127.0.0.1:1"]}}
    acme = {"agree_to_terms": True, "directory": server.directory, "ca_file": "ca.pem"}
    config = {
        "data_dir": str(folder / "data"),
        "log": {"access": "off"},
        "cluster": {
            "secret_file": "secret",
            "sync_interval": 0.1,
            "tls": {"ca": "nodes.pem", "cert": "{region}.pem", "key": "{region}.key"},
        },
        "regions": regions,
        "projects": {"shop": {"environments": {"production": environment}}},
        "tls": {"acme": acme | {"challenge": challenge, "region": "den"}},
    }
    path = folder / "onetrip.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.asynccontextmanager
async def running(path, region):
    node = Node(load_settings(path, region), log=silent_log(), rng=Random(1))
    try:
        await node.start()
        yield node
    finally:
        await node.stop(0.2)


async def serial(node, server):
    context = ssl.create_default_context(cadata=server.root_pem())
    _, writer = await asyncio.open_connection(
        "127.0.0.1", node.tls_port, ssl=context, server_hostname="shop.test"
    )
    found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return found


def has_certificate(node):
    return node.view.certificates()[0].expires_at is not None


@pytest.fixture
def nats(tmp_path):
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()


async def test_nodes_known_by_nats_alone_answer_and_serve(tmp_path, nats):
    async with running_acme(tmp_path, *free_ports(2)) as server:
        path = write(tmp_path, server, "http-01")
        config = yaml.safe_load(path.read_text())
        config["cluster"]["nats"] = nats.keys()
        for region in config["regions"].values():
            del region["peer"], region["node"]["peer_listen"]
        path.write_text(yaml.safe_dump(config))
        async with running(path, "bom") as bom, running(path, "den") as den:
            await eventually(lambda: has_certificate(den) and has_certificate(bom))
            assert await serial(den, server) == await serial(bom, server)
            assert len(server.orders) == len(server.accounts) == 1


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
async def test_any_node_answers_and_all_serve(tmp_path, challenge):
    async with running_acme(tmp_path, *free_ports(2)) as server:
        path = write(tmp_path, server, challenge)
        async with running(path, "bom") as bom:
            async with running(path, "den") as den:
                await eventually(lambda: has_certificate(den) and has_certificate(bom))
                assert await serial(den, server) == await serial(bom, server)
                assert len(server.orders) == len(server.accounts) == 1
            first = await serial(bom, server)
        # It serves what it got before, whether or not the other node is there.
        async with running(path, "bom") as bom:
            assert await serial(bom, server) == first
