"""What surrounds a routing relay: TLS on both sides, its API, and the process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psycopg
import pytest

from onetrip.app.config_route import load_route
from onetrip.model.replication import lsn
from onetrip.model.topology import Endpoint
from onetrip.relay.route_api import RouteApi
from onetrip.wire.postgres import SSL_REQUEST
from onetrip.wire.postgres_messages import message
from onetrip.wire.postgres_start import start_packet
from support.certs import Authority
from support.ports import free_port
from support.relayed import LOOPBACK
from support.routed import connect, relay_settings, routed, value
from support.servers import running_postgres
from support.waits import BOUND, eventually, soon

TOKEN = "a-token-of-the-api"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_port(authority) -> Iterator[int]:
    """A primary alone, over TLS as `db.example`; it asks for no password."""
    pair = authority.issue("db", "db.example")
    with running_postgres(tls=(pair.cert, pair.key)) as server:
        yield server.port


def route_file(folder: Path, port: int, authority: Authority, more: str = "") -> Path:
    (folder / "probe.password").write_text("geheim-4711")
    path = folder / "route.yaml"
    path.write_text(
        f"""
primary: {{address: "{LOOPBACK}:{port}", ca: {authority.file}, tls_name: db.example}}
accounts: {{probe: {{password_file: probe.password}}}}
{more}
"""
    )
    return path


CLIENT = {"user": "probe", "password": "geheim-4711", "dbname": "postgres"}


@pytest.fixture
async def base(tmp_path, server_port, authority):
    route = load_route(route_file(tmp_path, server_port, authority))
    async with routed(route) as (server, port):
        api = RouteApi(server, relay_settings(), TOKEN)
        own = await api.start(Endpoint(LOOPBACK, 0))
        try:
            yield server, port, f"http://{LOOPBACK}:{own}"
        finally:
            await api.stop()


class TestTls:
    async def test_both_sides_are_verified(self, tmp_path, server_port, authority):
        pair = authority.issue("relay", "relay.example", LOOPBACK)
        file = route_file(
            tmp_path, server_port, authority, f"tls: {{cert: {pair.cert}, key: {pair.key}}}"
        )
        async with routed(load_route(file)) as (_, port):
            strict = {"sslmode": "verify-full", "sslrootcert": str(authority.file)}
            async with connect(port, **CLIENT, **strict) as one:
                own = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                assert await value(one, own) is True  # that is the relay's connection
                assert await value(one, "SELECT length(repeat('x', 1000000))") == 1_000_000
                assert one.pgconn.ssl_in_use
            with pytest.raises(psycopg.OperationalError, match="wants TLS"):
                async with connect(port, **CLIENT, sslmode="disable"):
                    pass

    async def test_a_server_that_is_another_one_is_not_used(self, tmp_path, server_port, authority):
        file = route_file(tmp_path, server_port, authority, "pool: {wait: 0.3}")
        file.write_text(file.read_text().replace("db.example", "other.example"))
        route = load_route(file)
        async with routed(route, waits=False) as (server, port):
            with pytest.raises(psycopg.OperationalError, match=r"TLS failed|no server answers"):
                async with connect(port, **CLIENT):
                    pass
            assert server.fleet.standings.primary is None

    async def test_tls_is_not_offered_without_a_certificate(self, tmp_path, server_port, authority):
        route = load_route(route_file(tmp_path, server_port, authority))
        async with (
            routed(route) as (_, port),
            connect(port, **CLIENT, sslmode="prefer") as one,
        ):
            assert not one.pgconn.ssl_in_use


class TestBadClients:
    @pytest.mark.parametrize(
        "sent",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            SSL_REQUEST + b"early",
            SSL_REQUEST * 4,
            start_packet({"user": "probe"}) + b"Q\0\0\0\x0dSELECT 1\0",
            start_packet({"user": "probe"}) + b"p\0\0\0\x08abcd",
            start_packet({"user": "probe"}) + b"p\0\1\0\0",
            start_packet({"user": "probe"}) + b"p\0\0\0\3",
        ],
    )
    async def test_what_is_no_login_ends_at_once(self, base, sent):
        server, port, _ = base
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(sent)
        async with asyncio.timeout(BOUND):
            answer = await reader.read()
        assert b"FATAL" in answer
        writer.close()
        await eventually(lambda: server.connections == 0)

    @pytest.mark.parametrize(
        "sent",
        [
            message(b"P", b"no end"),
            message(b"B", b"portal\0no end") + message(b"S"),
            message(b"D", b"Sno end") + message(b"S"),
            b"Q\0\0\0\0",
            b"Q\x7f\0\0\0",
        ],
    )
    async def test_a_session_that_breaks_the_protocol_ends_alone(self, base, sent):
        server, port, _ = base
        async with connect(port, **CLIENT) as other, connect(port, **CLIENT) as one:
            sock = socket.socket(fileno=os.dup(one.pgconn.socket))
            try:
                sock.sendall(sent + message(b"S"))
                with pytest.raises(psycopg.OperationalError):
                    async with asyncio.timeout(BOUND):
                        await one.execute("SELECT 1")
            finally:
                sock.close()
            assert await value(other, "SELECT 1") == 1
        assert server.usage.pinned == 0


class TestApi:
    async def test_positions_and_floors(self, base):
        server, port, url = base
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(url, headers=headers) as api:
            async with api.get("/position") as reply:
                before = await reply.json()
            assert (before["backend"], before["position"]) == ("orders-db", "0/0")
            assert before["floor"] != "0/0"
            async with connect(port, **CLIENT) as one:
                await one.execute("CREATE TABLE IF NOT EXISTS moved (a int)")
                await one.execute("INSERT INTO moved VALUES (1)")
                upper = await value(one, "SELECT pg_current_wal_insert_lsn()::text")
            async with api.get("/position") as reply:
                told = await reply.json()
            assert "0/0" != told["position"] == told["floor"] <= upper
            ahead = {"backend": "orders-db", "position": "16/B374D848"}
            async with api.post("/floor", json=ahead) as reply:
                assert await reply.json() == {"backend": "orders-db", "floor": "16/B374D848"}
            assert str(lsn(server.fleet.standings.floor)) == "16/B374D848"
            async with api.post("/floor", json=ahead | {"position": "1/0"}) as reply:
                assert (await reply.json())["floor"] == "16/B374D848"
            async with api.get("/position") as reply:
                assert (await reply.json())["position"] == told["position"]
            async with api.get("/status") as reply:
                status = await reply.json()
            assert status["primary"] == "primary"
            assert status["endpoints"]["primary"]["role"] == "primary"
            assert status["pools"][0]["account"] == "probe"
            async with api.get("/metrics") as reply:
                assert 'onetrip_relay_sessions_total{backend="orders-db"}' in await reply.text()

    async def test_what_it_does_not_take(self, base):
        server, _, url = base
        headers = {"Authorization": f"Bearer {TOKEN}"}
        before = server.fleet.standings.floor
        async with aiohttp.ClientSession(url) as api:
            for shown in ({}, {"Authorization": "Bearer wrong"}):
                for path in ("/position", "/metrics"):
                    async with api.get(path, headers=shown) as reply:
                        assert reply.status == 401
            for body, status in (
                (b"", 400),
                (b"[]", 400),
                (b"\xff", 400),
                (b'{"backend": "orders-db", "position": 7}', 400),
                (b'{"backend": "orders-db", "position": "x"}', 400),
                (b'{"backend": "orders-db", "position": "0-1-2"}', 400),
                (b'{"backend": "other", "position": "0/1"}', 404),
                (b"x" * 10_000, 413),
            ):
                async with api.post("/floor", data=body, headers=headers) as reply:
                    assert reply.status == status
            async with api.get("/position", headers=headers) as reply:
                assert (await reply.json())["floor"] == str(lsn(before))


class TestProcess:
    def test_it_routes_as_a_process_and_tells_no_secret(self, tmp_path, server_port, authority):
        own, api = free_port(), free_port()
        file = route_file(tmp_path, server_port, authority, f"api: {{listen: '{LOOPBACK}:{api}'}}")
        with relay("--listen", f"{LOOPBACK}:{own}", "--route", str(file)) as process:
            clients: list[psycopg.Connection] = []
            where = f"host={LOOPBACK} port={own} user=probe password=geheim-4711 dbname=postgres"

            def connected() -> bool:
                try:
                    clients.append(psycopg.connect(where, autocommit=True))
                except psycopg.OperationalError:
                    return False
                return True

            soon(connected)
            assert clients[0].execute("SELECT 7").fetchone() == (7,)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=BOUND)
            clients[0].close()
        assert process.returncode == 0, errors
        events = [json.loads(line)["event"] for line in errors.splitlines()]
        assert {"relay.started", "relay.primary_found", "relay.stopped"} <= set(events)
        assert "geheim" not in errors

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ((), "set one of --to and --route"),
            (("--to", "a:1", "--route", "b"), "set one of --to and --route"),
            (("--route", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(self, options, reason):
        with relay("--listen", f"{LOOPBACK}:0", *options) as process:
            _, errors = process.communicate(timeout=BOUND)
        assert process.returncode == 2
        assert reason in errors
        assert errors.count("\n") == 1


@contextmanager
def relay(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    base = {k: v for k, v in os.environ.items() if not k.startswith("ONETRIP_")}
    command = [sys.executable, "-m", "onetrip.cli.main", "relay", "postgres"]
    process = subprocess.Popen(
        [*command, "--backend", "orders-db", *arguments],
        env=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=BOUND)
