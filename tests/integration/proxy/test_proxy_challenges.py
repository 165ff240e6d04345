"""Answers to an authority's validation: before routes over HTTP, and inside the TLS handshake."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from onetrip.acme.keys import make_proof
from onetrip.acme.settings import Challenge
from onetrip.model.topology import Endpoint
from onetrip.net.tls import CertificateSet, load_certificate
from support.acme_checks import ProblemError, check_tls
from support.certs import Authority
from support.proxy_rig import one_region
from support.servers import require_program
from support.waits import BOUND, eventually

ANSWER = "token.thumbprint"
TARGET = "/.well-known/acme-challenge/token"
PROOF = make_proof(Challenge("shop.test", "tls-alpn-01", "token", ANSWER), 1_750_000_000.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def served(authority):
    pair = authority.issue("web", "shop.test")
    return load_certificate(pair.cert, pair.key)


@contextlib.asynccontextmanager
async def serving(contexts=(), awaited=()):
    certificates = CertificateSet(list(contexts), awaited)
    async with one_region(Endpoint("127.0.0.1", 1), certificates=certificates) as rig:
        challenges = rig.server.challenges
        challenges.refuses = certificates.refuses if certificates.is_partial else None
        yield rig, challenges


async def ask(port: int, method: str, target: str, more: str = "") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {target} HTTP/1.1\r\nHost: shop.test\r\n{more}Connection: close\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(BOUND):
        reply = await reader.read()
    writer.close()
    return reply


async def s_client(port: int, *options: str) -> str:
    """Return what OpenSSL's own client says of a handshake."""
    program = require_program("openssl")
    arguments = ["s_client", "-connect", f"127.0.0.1:{port}", "-servername", "shop.test", *options]
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(BOUND):
        output, _ = await process.communicate()
    return output.decode(errors="replace")


class TestHttp:
    async def test_known_token_is_answered_before_routes_and_redirect(self, served):
        async with serving([served]) as (rig, challenges):
            rig.server.redirect_to(443)
            challenges.answer_http("token", ANSWER)
            reply = await ask(rig.port, "GET", TARGET)
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
            assert reply.endswith(b"\r\n\r\n" + ANSWER.encode())
            assert b"Content-Length: 16\r\n" in reply

    async def test_head_has_no_body(self, served):
        async with serving([served]) as (rig, challenges):
            challenges.answer_http("token", ANSWER)
            assert (await ask(rig.port, "HEAD", TARGET)).endswith(b"\r\n\r\n")

    @pytest.mark.parametrize("target", [TARGET + "x", TARGET[:-1], TARGET + "?a", "/token"])
    async def test_any_other_target_is_routed(self, served, target):
        async with serving([served]) as (rig, challenges):
            challenges.answer_http("token", ANSWER)
            assert not (await ask(rig.port, "GET", target)).startswith(b"HTTP/1.1 200 ")

    async def test_answer_ends(self, served):
        async with serving([served]) as (rig, challenges):
            challenges.answer_http("token", ANSWER)
            challenges.answer_http("token", None)
            challenges.answer_http("token", None)
            assert not (await ask(rig.port, "GET", TARGET)).startswith(b"HTTP/1.1 200 ")


class TestTls:
    async def test_validation_is_answered_in_the_handshake(self, served):
        async with serving([served]) as (rig, challenges):
            challenges.answer_tls("shop.test", PROOF)
            await check_tls("shop.test", rig.tls_port, ANSWER)
            await eventually(lambda: rig.server.connections == 0)

    async def test_openssl_agrees_and_is_told_nothing_more(self, served):
        async with serving([served]) as (rig, challenges):
            challenges.answer_tls("shop.test", PROOF)
            said = await s_client(rig.tls_port, "-alpn", "acme-tls/1")
            assert "ALPN protocol: acme-tls/1" in said
            assert "CN = ACME challenge" in said or "CN=ACME challenge" in said

    @pytest.mark.parametrize("protocols", [["h2", "acme-tls/1"], ["acme-tls/1", "h2"], ["h2"], []])
    async def test_everybody_else_gets_the_usual_certificate(self, served, authority, protocols):
        async with serving([served]) as (rig, challenges):
            challenges.answer_tls("shop.test", PROOF)
            context = authority.client_context()
            if protocols:
                context.set_alpn_protocols(protocols)
            _, writer = await asyncio.open_connection(
                "127.0.0.1", rig.tls_port, ssl=context, server_hostname="shop.test"
            )
            tls = writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() is None
            writer.close()

    async def test_other_name_or_no_order_is_no_validation(self, served):
        async with serving([served]) as (rig, challenges):
            challenges.answer_tls("other.test", PROOF)
            with pytest.raises(ProblemError, match="protocol is None"):
                await check_tls("shop.test", rig.tls_port, ANSWER)
            challenges.answer_tls("other.test", None)
            with pytest.raises(ProblemError, match="protocol is None"):
                await check_tls("other.test", rig.tls_port, ANSWER)

    @pytest.mark.parametrize("size", [1, 50, 300])
    async def test_hello_may_come_in_pieces(self, served, size):
        async with serving([served]) as (rig, challenges):
            challenges.answer_tls("shop.test", PROOF)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["acme-tls/1"])
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="shop.test")
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.tls_port)
            for _ in range(10):
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    break
                data = outgoing.read()
                for at in range(0, len(data), size):
                    writer.write(data[at : at + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                async with asyncio.timeout(BOUND):
                    incoming.write(await reader.read(65536))
            assert client.selected_alpn_protocol() == "acme-tls/1"
            writer.close()

    async def test_client_that_leaves_or_sends_nonsense_costs_one_connection(self, served):
        async with serving([served]) as (rig, challenges):
            challenges.answer_tls("shop.test", PROOF)
            for start in (b"\x16", b"\x16\x03\x01\x00\xff\x01", b"\x16\x03\x01\x00\x04\x02\0\0\0"):
                reader, writer = await asyncio.open_connection("127.0.0.1", rig.tls_port)
                writer.write(start)
                writer.write_eof()
                async with asyncio.timeout(BOUND):
                    with contextlib.suppress(ConnectionError):
                        await reader.read()
                writer.close()
            await check_tls("shop.test", rig.tls_port, ANSWER)


class TestNoCertificateYet:
    async def test_client_is_told_that_the_name_is_unknown(self):
        async with serving() as (rig, _):
            said = await s_client(rig.tls_port)
            assert "unrecognized name" in said
            name = "onetrip_proxy_refused_connections_total"
            labels = {"listener": "tls", "reason": "name"}
            assert rig.metrics.registry.get_sample_value(name, labels) == 1

    async def test_only_the_awaited_name_is_refused(self, served, authority):
        async with serving([served], {"new.test"}) as (rig, challenges):
            context = authority.client_context()
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                await asyncio.open_connection(
                    "127.0.0.1", rig.tls_port, ssl=context, server_hostname="new.test"
                )
            _, writer = await asyncio.open_connection(
                "127.0.0.1", rig.tls_port, ssl=context, server_hostname="shop.test"
            )
            writer.close()
            # The authority gets through all the same.
            proof = make_proof(Challenge("new.test", "tls-alpn-01", "t", ANSWER), 1.75e9)
            challenges.answer_tls("new.test", proof)
            await check_tls("new.test", rig.tls_port, ANSWER)
