"""Commands about deployments, domains and bindings, and the screen that goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from onetrip.cli.main import app
from onetrip.errors import ApiError, ConfigError
from support.admin_server import admin_thread
from support.fake_view import FakeView


@pytest.fixture
def view() -> FakeView:
    return FakeView()


@pytest.fixture
def api(view: FakeView) -> Iterator[str]:
    with admin_thread(view) as url:
        yield url


def invoke(api: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"ONETRIP_API": api, "COLUMNS": "200"})


def ok(api: str, *arguments: str) -> str:
    result = invoke(api, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def deploy(api: str, *arguments: str) -> dict[str, object]:
    text = ok(
        api, "deploy", "shop", "-i", "den=10.0.0.1:9000", "--compatibility-date", "2026-11-25",
        "--json", *arguments,
    )  # fmt: skip
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_deployment_is_made_and_seen_through(api: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("home")
    (tmp_path / ".env").write_text("SECRET=1")
    text = ok(
        api, "deploy", "shop", str(tmp_path), "-i", "den=10.0.0.1:9000", "-i", "bom=10.0.0.2:9000",
        "--branch", "fix/api", "--commit", "4f2a", "-m", "try it", "--compatibility-date",
        "2026-11-25",
    )  # fmt: skip
    lines = dict(line.split(None, 1) for line in text.splitlines())
    assert lines["status"] == "ready, current"
    assert (lines["environment"], lines["branch"], lines["message"]) == (
        "preview",
        "fix/api",
        "try it",
    )
    assert "fix-api.shop.apps.example.com" in text
    assert "10.0.0.2:9000" in text
    listed = ok(api, "deployments", "list", "shop")
    assert lines["deployment"] in listed
    assert ok(api, "deployments", "show", "shop", lines["deployment"]) == text


def test_branch_and_commit_come_from_git_where_there_is_one(api: str, tmp_path: Path) -> None:
    found = deploy(api, "--branch", "main")
    assert found["branch"] == "main"
    # Outside of a repository nothing is told.
    text = ok(
        api, "deploy", "shop", str(_site(tmp_path)), "--compatibility-date", "2026-11-25", "--json"
    )
    assert (json.loads(text)["branch"], json.loads(text)["environment"]) == ("", "production")


def test_failed_deployment_ends_with_an_error(api: str, view: FakeView) -> None:
    view.releases.failing = frozenset({"bad"})
    result = invoke(
        api, "deploy", "shop", "-i", "den=10.0.0.1:9000", "--branch", "bad",
        "--compatibility-date", "2026-11-25",
    )  # fmt: skip
    assert isinstance(result.exception, ApiError)
    assert "is failed" in str(result.exception)
    assert "answers 500" in result.stdout


def test_share_rollout_and_rollback(api: str) -> None:
    old = deploy(api, "--commit", "old", "--branch", "main")["id"]
    new = deploy(api, "--commit", "new", "--branch", "main", "--share", "10%")
    assert (new["status"], new["share"], new["is_current"]) == ("ready", 0.1, False)
    text = ok(api, "deployments", "rollout", "shop", str(new["id"]), "25%")
    assert text == f"production  {old} serves 75 %, {new['id']} 25 %\n"
    assert ok(api, "deployments", "rollout", "shop", str(new["id"])) == (
        f"production  {new['id']} serves\n"
    )
    assert ok(api, "deployments", "rollback", "shop") == f"production  {old} serves\n"
    ok(api, "deployments", "delete", "shop", str(new["id"]))
    assert str(new["id"]) not in ok(api, "deployments", "list", "shop")


def test_dry_run_makes_nothing(api: str, tmp_path: Path) -> None:
    found = deploy(api, "--branch", "main", "--dry-run")
    assert found["status"] == "checking"
    assert len(ok(api, "deployments", "list", "shop").splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("-i", "den"), "REGION=HOST:PORT"),
        (("-i", "den=10.0.0.1:1", "--share", "200%"), "not in 0%-100%"),
        (("-i", "den=10.0.0.1:1", "--share", "ten"), "not in 0%-100%"),
        (("/none",), "is not a folder"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_sent(
    api: str, view: FakeView, arguments: tuple[str, ...], error: str
) -> None:
    result = invoke(api, "deploy", "shop", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert error in str(result.exception)
    assert len(view.releases.registry) == 0


def test_project_domains_and_bindings(api: str) -> None:
    assert "new" in ok(api, "project", "create", "new")
    text = ok(api, "domain", "add", "new", "www.new.test")
    assert "www.new.test" in text
    assert "API" in text
    assert "www.new.test" in ok(api, "domain", "list", "new")
    assert "orders-db" in ok(api, "bind", "new", "db", "orders-db")
    listed = ok(api, "project", "environments", "new")
    assert "db=orders-db" in listed
    ok(api, "unbind", "new", "db")
    assert "db=orders-db" not in ok(api, "project", "environments", "new")
    ok(api, "domain", "remove", "new", "www.new.test")
    assert "www.new.test" not in ok(api, "domain", "list", "new")
    ok(api, "project", "delete", "new")
    result = invoke(api, "project", "environments", "new")
    assert "no project 'new'" in str(result.exception)


def test_top_prints_one_look_where_nobody_watches(api: str) -> None:
    text = ok(api, "top")
    assert text.startswith("den ok, up ")
    assert "REQ/S" in text
    assert "place.moved" in text
    rows = json.loads(ok(api, "top", "--json", "--sort", "p95"))["routes"]
    known = [row["p95_ms"] for row in rows if row["p95_ms"] is not None]
    assert known == sorted(known, reverse=True)
    assert any(row["where"] == "bom" and row["saving_ms"] for row in rows)


def _site(folder: Path) -> Path:
    (folder / "index.html").write_text("home")
    return folder
