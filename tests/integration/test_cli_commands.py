"""The `onetrip` command as a process of its own: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import onetrip
from onetrip.cli.client import Client, UnreachableError
from onetrip.control import versions
from onetrip.control.schemas import StatusBody
from onetrip.control.store import Store, StoredPolicy
from onetrip.errors import ApiError, ConfigError, Kind
from onetrip.model.catalog import Mode
from onetrip.model.edge import Purge
from onetrip.model.status import PolicyChange
from onetrip.model.topology import RegionId
from support.admin_server import admin_thread
from support.fake_view import FakeView


@pytest.fixture(scope="module")
def view() -> FakeView:
    return FakeView()


@pytest.fixture(scope="module")
def api(view: FakeView) -> Iterator[str]:
    with admin_thread(view) as url:
        yield url


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if not k.startswith("ONETRIP_")}
    return subprocess.run(
        [sys.executable, "-m", "onetrip.cli.main", *arguments],
        env=base | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ok(*arguments: str, **env: str) -> str:
    result = run(*arguments, **env)
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def refused(code: int, *arguments: str, **env: str) -> str:
    result = run(*arguments, **env)
    assert (result.returncode, result.stdout) == (code, ""), result
    assert result.stderr.startswith("onetrip: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_reading_commands_print_tables(api: str) -> None:
    assert "3 of 3 alive" in ok("status", "--api", api)
    assert "orders-db" in ok("regions", ONETRIP_API=api)
    assert "229.0" in ok("rtts", ONETRIP_API=api)
    assert "invoices" in ok("project", "list", ONETRIP_API=api)
    assert "shop.example" in ok("project", "show", "shop", ONETRIP_API=api)
    assert "control" in ok("latencies", "shop", ONETRIP_API=api)
    assert "place.moved" in ok("events", "--limit", "5", ONETRIP_API=api)
    assert "shop.test +1  valid" in ok("certificates", ONETRIP_API=api)
    assert "https://hooks.example" in ok("webhook", "list", ONETRIP_API=api)
    assert "failed: answered 503" in ok("webhook", "deliveries", "chat", ONETRIP_API=api)
    assert "delivered (204, 12 ms)" in ok("webhook", "test", "ops", ONETRIP_API=api)
    assert "no webhook 'x'" in refused(1, "webhook", "test", "x", ONETRIP_API=api)
    failed = run("webhook", "test", "chat", ONETRIP_API=api)
    assert (failed.returncode, failed.stdout) == (1, "failed: answered 503\n")


def test_explain_prints_terms_and_saving(api: str) -> None:
    text = ok("explain", "shop", "--edge", "den", "--route", "/orders/{id}", ONETRIP_API=api)
    assert "11.0 x  229.0 =   2519.0  2522.1 ms  default" in text
    assert "saving 2284.5 ms, 95 % interval" in text
    assert text.count("shop/production") == 1


def test_whatif_tells_what_the_toggle_would_do(api: str) -> None:
    text = ok("whatif", "invoices", "--edge", "den", ONETRIP_API=api)
    assert text.count("/pdf/{id}") == 1
    assert "100 % of requests would move, saving 456 ms each" in text
    assert "den, bom, fra" in refused(1, "whatif", "shop", "--edge", "x", ONETRIP_API=api)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("status", "region"),
        ("regions", "regions"),
        ("rtts", "rtts"),
        ("project list", "projects"),
        ("project show shop", "placement"),
        ("explain shop", "decisions"),
        ("whatif shop", "totals"),
        ("advise replicas", "backends"),
        ("advise", "routes"),
        ("latencies", "latencies"),
        ("events", "events"),
        ("certificates", "certificates"),
        ("webhook list", "webhooks"),
    ],
)
def test_json_is_the_reply_itself(api: str, command: str, key: str) -> None:
    assert key in json.loads(ok(*command.split(), "--json", ONETRIP_API=api))


def test_set_changes_the_policy(view: FakeView, api: str) -> None:
    text = ok(
        *("project", "set", "blog", "--placement", "smart", "--hint", "fra"),
        *("--control", "0.02", "--explore", "0"),
        ONETRIP_API=api,
    )
    assert "smart, pinned to fra" in text
    assert view.changes[-1] == ("blog", PolicyChange(Mode.SMART, "fra", 0.02, 0.0))
    ok("project", "set", "blog", "--hint", "none", "--placement", "off", ONETRIP_API=api)
    assert view.changes[-1] == ("blog", PolicyChange(Mode.OFF, ""))


def test_drain_is_ordered_and_ended(view: FakeView, api: str) -> None:
    assert ok("drain", ONETRIP_API=api).startswith("den drains")
    assert view.draining == {"den"}
    assert "this node, draining" in ok("regions", ONETRIP_API=api)
    assert ok("drain", "--off", ONETRIP_API=api) == "den takes requests\n"
    assert not view.draining


def test_purge_is_ordered(view: FakeView, api: str) -> None:
    found = ok("project", "purge", "shop", "--url", "https://shop.test/a", ONETRIP_API=api)
    assert found == "3 responses forgotten in den\n"
    assert view.purges == [Purge("shop", b"https", b"shop.test", b"/a")]


def test_refusals_are_one_line_and_exit_1(api: str) -> None:
    assert "no project 'nope'" in refused(1, "project", "show", "nope", ONETRIP_API=api)
    assert "0..0.5" in refused(1, "project", "set", "shop", "--control", "7", ONETRIP_API=api)
    assert "den, bom, fra" in refused(1, "explain", "shop", "--edge", "x", ONETRIP_API=api)


def test_wrong_usage_exits_2(tmp_path: Path, api: str) -> None:
    assert "nothing to set" in refused(2, "project", "set", "shop", ONETRIP_API=api)
    assert "no http" in refused(2, "status", "--api", "ftp://x")
    assert "cannot be read" in refused(2, "status", "--token-file", str(tmp_path / "none"))
    assert run("project", "set", "shop", "--placement", "fast").returncode == 2
    assert run("nonsense").returncode == 2


def test_unreachable_api_exits_3_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    text = refused(3, "status", ONETRIP_API=f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in text
    assert "is the node running" in text


def test_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("right\n")
    with admin_thread(FakeView(), "right") as url:
        assert "den" in ok("status", "--token-file", str(file), ONETRIP_API=url)
        assert "den" in ok("status", ONETRIP_API=url, ONETRIP_TOKEN="right")
        text = refused(1, "status", ONETRIP_API=url)
        assert "--token-file" in text
        wrong = refused(1, "status", ONETRIP_API=url, ONETRIP_TOKEN="wrong-secret")
        assert "wrong-secret" not in wrong


def test_check_names_the_file_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("nonsense: 1\n")
    assert "bad.yaml" in refused(2, "check", "--config", str(file))
    assert "bad.yaml" in refused(2, "run", "--config", str(file))


def test_demo_passes_its_arguments_through() -> None:
    result = run("demo", "--help")
    assert result.returncode == 0
    assert "--for" in result.stdout


def test_version_and_help_need_no_node() -> None:
    assert ok("version") == f"onetrip {onetrip.__version__}\n"
    assert "explain" in ok("--help")


def test_closed_pipe_is_no_error(api: str) -> None:
    command = f"{sys.executable} -m onetrip.cli.main events | true"
    env = {**os.environ, "ONETRIP_API": api}
    result = subprocess.run(
        ["sh", "-c", command], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""


def test_starting_a_node_does_not_keep_the_command_line_in_memory() -> None:
    code = "import sys, onetrip.cli.launch; print('typer' in sys.modules, 'rich' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == "False False\n"


# --- the client against servers that are not onetrip ------------------------------------------


@pytest.fixture
def canned() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each connection with the bytes put into the list."""
    replies: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(replies[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", replies
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http(200, b"<html>"),
        http(200, b"{}"),
        http(200, b"[" * 200_000),
        http(502, b"Bad Gateway"),
        http(302, b""),
        b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{}",
    ],
)
def test_reply_that_is_not_ours_is_unreachable(
    canned: tuple[str, list[bytes]], reply: bytes
) -> None:
    url, replies = canned
    replies.append(reply)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        Client(url, timeout=5).get(("status",), StatusBody, {})


def test_reply_without_end_is_bounded(
    canned: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onetrip.cli.client.MAX_REPLY", 1000)
    url, replies = canned
    replies.append(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 5000)
    with pytest.raises(UnreachableError, match="exceeds limit of 1000 bytes"):
        Client(url, timeout=5).get(("status",), StatusBody, {})


def test_problem_keeps_kind_and_field(canned: tuple[str, list[bytes]]) -> None:
    url, replies = canned
    body = {"type": "about:blank", "title": "x", "status": 412, "detail": "changed"}
    replies.append(http(412, json.dumps(body | {"kind": "conflict", "field": "if-match"}).encode()))
    with pytest.raises(ApiError, match="changed") as caught:
        Client(url).post(("reload",), StatusBody)
    assert (caught.value.kind, caught.value.field) == (Kind.CONFLICT, "if-match")


@pytest.mark.parametrize("api", ["", "127.0.0.1:9400", "http://", "http://x:99999", "http://[::1"])
def test_api_that_is_no_url_is_refused(api: str) -> None:
    with pytest.raises(ConfigError, match="--api"):
        Client(api)


@pytest.mark.parametrize("token", ["", "a\r\nX: y", "tök", "a\x00"])
def test_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        Client("http://127.0.0.1", token)


def test_token_is_made_used_and_revoked(tmp_path: Path) -> None:
    view = FakeView()
    with admin_thread(view, "a token of the configuration", tmp_path / "onetrip.db") as url:
        root = {"ONETRIP_API": url, "ONETRIP_TOKEN": "a token of the configuration"}
        create = ("token", "create", "ci", "--scope", "write", "--project", "shop")
        secret = ok(*create, "--expires", "30d", **root).strip()
        held = {"ONETRIP_API": url, "ONETRIP_TOKEN": secret}
        ok("project", "set", "shop", "--placement", "off", **held)
        assert "is for /v1/projects/shop only" in refused(1, "regions", **held)
        assert "ci" in ok("token", "list", **root)
        assert "change_project  shop" in ok("audit", **root)
        assert json.loads(ok("audit", "--limit", "1", "--json", **root))["next"] is not None
        assert ok("token", "revoke", "ci", **root) == ""
        assert "revoked" in refused(1, "project", "show", "shop", **held)


def test_version_is_put_back_after_a_look(tmp_path: Path) -> None:
    view, path = FakeView(), tmp_path / "onetrip.db"
    store = Store(path)
    change = PolicyChange(mode=Mode.OFF)
    versions.put(store, StoredPolicy("shop", change, "digest", 1, RegionId("den")), 1.0)
    store.close()
    with admin_thread(view, path=path) as url:
        assert "off" in ok("project", "versions", "shop", ONETRIP_API=url)
        ok("project", "rollback", "shop", "1", "--dry-run", ONETRIP_API=url)
        ok("project", "set", "shop", "--hint", "bom", "--dry-run", ONETRIP_API=url)
        ok("drain", "--dry-run", ONETRIP_API=url)
        assert "would be applied" in ok("reload", "--dry-run", ONETRIP_API=url)
        assert (view.changes, view.draining) == ([], frozenset())
        ok("project", "rollback", "shop", "1", ONETRIP_API=url)
        assert view.changes == [("shop", change)]


def test_events_are_followed_until_the_node_ends() -> None:
    view = FakeView(dead=frozenset({"bom"}))
    with admin_thread(view) as url:
        command = [sys.executable, "-m", "onetrip.cli.main", "events", "--follow", "--api", url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            line = following.stdout.readline()
            following.terminate()
    assert line == "status degraded; region bom does not answer\n"


def test_stream_of_a_node_that_refuses_is_an_error() -> None:
    with admin_thread(FakeView(), "a token of sixteen") as url:
        assert "a bearer token is required" in refused(1, "events", "--follow", ONETRIP_API=url)
