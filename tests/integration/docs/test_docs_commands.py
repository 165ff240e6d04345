"""Every command that the documentation shows is run on real nodes, or listed with a reason."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from typer.testing import CliRunner

from onetrip.cli.main import app
from support.cluster import Cluster

ROOT = Path(__file__).parents[3]

SHELL = re.compile(
    r"(onetrip|curl|pip|make|openssl|docker|helm|kubectl|systemctl|promtool|python3?) [a-z/-]"
)
"""What a line looks like that belongs in a block marked as `console`."""

LISTED = {
    "make demo": "takes a minute; test_demo_end_to_end runs it",
    "make test": "is this",
    "pip install": "test_container_image installs the package",
    "python3 -m venv /opt": "changes the machine; test_container_image does it in a folder",
    "/opt/onetrip/bin/pip": "changes the machine; test_container_image does it in a folder",
    "ln -s": "changes the machine",
    "install -D": "changes the machine",
    "systemctl": "changes the machine",
    "docker": "needs a Docker daemon; test_container_image runs the steps",
    "kubectl": "needs a cluster",
    "helm": "needs a cluster; test_helm_chart renders the chart",
    "onetrip run": "does not end; test_node_upgrade and others run it",
    "onetrip envoy bootstrap": "needs data_plane: envoy; test_app_envoy prints one",
    "envoy -c": "does not end; test_node_envoy runs it",
    "onetrip import": "reads another proxy's files; test_import_end_to_end runs it",
    "onetrip upgrade": "a node in this process has no successor; test_node_upgrade runs it",
    "onetrip relay": "does not end; test_relay_real_servers runs it",
    "onetrip simulate": "takes minutes with these options; test_cli_simulate runs it",
    "onetrip webhook test": "needs a receiver; test_node_webhooks has one",
    "onetrip webhook deliveries": "needs a receiver; test_node_webhooks has one",
    "curl -N": "does not end; test_admin_stream reads it",
    "onetrip events --follow": "does not end; test_admin_stream reads the same",
    "curl -X POST http://127.0.0.1:9400/v1/projects/shop/": "names instances that must answer; "
    "test_node_deployments makes such calls",
    "curl -X PUT": "names deployments that must exist; test_node_deployments makes such calls",
    "onetrip deploy": "names instances that must answer, and deployments that must exist; "
    "test_cli_deployments runs them",
    "onetrip bind": "names a backend of the reader's; test_cli_deployments runs it",
    "tar -czf site.tgz": "packs a folder of the reader's",
    "curl -X PATCH": "its <etag> is known when it is run; test_admin_api changes policies",
}
"""Beginnings of commands that are not run here, and why."""

PROGRAMS = {"promtool": "prometheus", "systemd-analyze": "systemd", "openssl": "openssl"}
"""Programs that may be absent, and their packages."""


class Command(NamedTuple):
    """A command and where it stands."""

    text: str
    place: str


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[str, int, list[str]]]:
    """Return a page's fenced blocks: language, line number, lines."""
    found: list[tuple[str, int, list[str]]] = []
    inside: list[str] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```") and inside is None:
            inside = []
            found.append((line.removeprefix("```").strip(), number, inside))
        elif line.startswith("```"):
            inside = None
        elif inside is not None:
            inside.append(line)
    return found


def commands() -> list[Command]:
    found = []
    for page in pages():
        for language, number, lines in blocks(page):
            if language == "console":
                name = f"{page.relative_to(ROOT)}:{number}"
                text = "\n".join(lines).replace("\\\n", " ")
                found += [
                    Command(re.sub(r"\s#.*|^#.*", "", each).strip(), name)
                    for each in text.splitlines()
                ]
    return [each for each in found if each.text]


def reason(command: Command) -> str | None:
    """Return why a command is not run here."""
    return next((why for start, why in LISTED.items() if command.text.startswith(start)), None)


class Shop(Cluster):
    """The world that the pages talk about: the project shop, in Denver and Mumbai."""

    def _project(self) -> dict[str, object]:
        return {**super()._project(), "cache": {"enabled": True}}


def prepare(folder: Path) -> None:
    """Put what the commands name into the folder they run in."""
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    config = yaml.safe_load((folder / "den.yaml").read_text())
    (folder / "onetrip.yaml").write_text(yaml.safe_dump(config))


def run(command: Command, api: str, folder: Path) -> str:
    """Run a command; return what went wrong, or nothing."""
    text = command.text.replace("http://127.0.0.1:9400", api)
    name, *arguments = shlex.split(text)
    if name == "onetrip":
        result = CliRunner().invoke(app, arguments, env={"ONETRIP_API": api, "COLUMNS": "200"})
        return "" if result.exit_code == 0 else f"{result.output}{result.exception!r}"
    if name in PROGRAMS and shutil.which(name) is None:
        return ""
    done = subprocess.run(
        text,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if done.returncode == 0 else f"exit {done.returncode}: {done.stdout}{done.stderr}"


async def test_each_command_of_the_pages_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Shop(tmp_path, {"mode": "off"})
    try:
        await cluster.start()
        for edge in cluster.sites:
            await cluster.many(edge, "/orders/7", 24)
        for hint in ("bom", "den", ""):  # versions that can be put in force again
            assert await cluster.patch("den", {"hint": hint}) == 200
        prepare(tmp_path)
        monkeypatch.chdir(tmp_path)
        api = f"http://127.0.0.1:{cluster.sites['den'].admin}"
        wrong = {}
        for command in commands():
            if reason(command) is None:
                said = await asyncio.to_thread(run, command, api, tmp_path)
                if said:
                    wrong[f"{command.place} {command.text}"] = said
        assert wrong == {}
    finally:
        await cluster.stop()


def test_commands_are_found() -> None:
    assert sum(reason(command) is None for command in commands()) > 20


def test_blocks_of_commands_are_marked() -> None:
    for page in pages():
        for language, number, lines in blocks(page):
            if language == "" and lines:
                place = f"{page.relative_to(ROOT)}:{number}"
                assert not SHELL.match(lines[0]), f"{place}: write ```console, so that it is run"


def test_broken_command_is_noticed(tmp_path: Path) -> None:
    assert "No such option" in run(
        Command("onetrip status --jsn", ""), "http://127.0.0.1:1", tmp_path
    )
    assert run(Command("onetrip status", ""), "http://127.0.0.1:1", tmp_path)
    assert "exit 1" in run(Command("false", ""), "", tmp_path)
