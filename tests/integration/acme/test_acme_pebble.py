"""Certificates ordered from a real authority's own test server."""

from __future__ import annotations

import pytest

from support.acme_node import acme_node
from support.pebble import running_pebble
from support.waits import eventually

HMAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def ordering(server, **more):
    return {"directory": server.directory, "ca_file": str(server.ca_file)} | more


@pytest.mark.needs_server("pebble")
@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
async def test_certificate_is_issued_and_served(tmp_path, challenge):
    with running_pebble(tmp_path, refused_nonces=30) as server:
        acme = ordering(server, challenge=challenge, email="ops@shop.test")
        ports = {"http_port": server.http_port, "tls_port": server.tls_port}
        async with acme_node(tmp_path, acme, **ports) as rig:
            await eventually(lambda: rig.status().expires_at is not None)
            found = await rig.subject(server.root())
            assert found["subjectAltName"] == (("DNS", "shop.test"),)
            assert "acme.certificate_issued" in rig.events()


@pytest.mark.needs_server("pebble")
async def test_account_of_the_authority_is_bound(tmp_path):
    (tmp_path / "hmac").write_text(HMAC)
    with running_pebble(tmp_path, accounts={"kid-1": HMAC}) as server:
        acme = ordering(server, eab={"kid": "kid-1", "hmac_file": "hmac"}, key_type="rsa2048")
        ports = {"http_port": server.http_port, "tls_port": server.tls_port}
        async with acme_node(tmp_path, acme, **ports) as rig:
            await eventually(lambda: rig.status().expires_at is not None)
            assert HMAC not in rig.log.getvalue()
