"""The image's build steps, run in a folder, and the example that runs it in two regions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def steps() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and what they say, in order."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def run(command: str, **options: Any) -> str:
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that the build stage makes; what it depends on is that of the tests."""
    home = tmp_path_factory.mktemp("image")
    source = home / "source"
    source.mkdir()
    prefix = f"PATH={Path(sys.executable).parent}:$PATH"
    for word, rest in steps()[: [word for word, _ in steps()].index("FROM", 1)]:
        if word == "COPY":
            *names, target = rest.split()
            run(f"cp -r {' '.join(names)} {source / target}", cwd=ROOT)
        elif word == "RUN":
            command = rest.replace("/opt/onetrip", str(home / "onetrip"))
            # Downloading numpy and the like anew would take longer than all of this.
            command = command.replace("pip --python", f"{quiet()} --python")
            run(f"{prefix} {command.replace('install', 'install --no-deps', 1)}", cwd=source)
    (site,) = (home / "onetrip" / "lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home / "onetrip"


def quiet() -> str:
    return "pip --disable-pip-version-check --quiet"


def test_installed_package_is_whole(installed: Path, tmp_path: Path) -> None:
    told = run(
        f"{installed}/bin/python3 -I -c 'import onetrip, json; print(onetrip.__file__)'",
        cwd=tmp_path,
    )
    package = Path(told.strip()).parent
    assert package.is_relative_to(installed)
    tree = {p.relative_to(ROOT / "src") for p in (ROOT / "src" / "onetrip").rglob("*")}
    files = {p for p in tree if (ROOT / "src" / p).is_file() and "__pycache__" not in p.parts}
    assert not [str(p) for p in files if not (package.parent / p).is_file()]


def test_installed_command_checks_the_example(installed: Path) -> None:
    command = f"{installed}/bin/onetrip check --config {DEPLOY}/compose/onetrip.yaml --region den"
    secret = {"ONETRIP_CLUSTER_SECRET": "only-for-this-example"}
    assert run(command, env={**os.environ, **secret}).startswith("OK ")
    assert not (installed / "bin" / "pip").exists()


def test_image_runs_as_nobody_and_is_pinned() -> None:
    found = steps()
    bases = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    last = [word for word, _ in found]
    assert found[len(last) - 1 - last[::-1].index("USER")] == ("USER", "10001:10001")
    (check,) = (rest for word, rest in found if word == "HEALTHCHECK")
    command = json.loads(check.partition("CMD")[2])
    compile(command[2], "healthcheck", "exec")
    # The build sees only what it copies.
    let_in = (ROOT / ".dockerignore").read_text().split()
    copied = {n for w, r in found if w == "COPY" and "--from" not in r for n in r.split()[:-1]}
    assert {name[1:] for name in let_in if name.startswith("!")} == copied


def test_example_names_what_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETRIP_CLUSTER_SECRET", "only-for-this-example")
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    config = yaml.safe_load((DEPLOY / "compose" / "onetrip.yaml").read_text(encoding="utf-8"))
    for region, about in config["regions"].items():
        settings = load_settings(DEPLOY / "compose" / "onetrip.yaml", region)
        assert settings.listen.port == 8080
        assert {about["proxy"], about["peer"]} == {f"{region}:8080", f"{region}:9401"}
        command = services[region]["command"]
        assert command == ["run", "--config", "/etc/onetrip/onetrip.yaml", "--region", region]
    (environment,) = config["projects"]["shop"]["environments"].values()
    hosts = [each for found in environment["instances"].values() for each in found]
    hosts += [backend["address"] for backend in config["backends"].values()]
    assert {host.partition(":")[0] for host in hosts} <= set(services)
    build = compose["x-node"]["build"]
    assert (DEPLOY / "compose" / build["context"] / build["dockerfile"]).is_file()


def test_service_unit_is_one() -> None:
    program = "/usr/bin/systemd-analyze"
    if not Path(program).exists():
        pytest.skip("systemd-analyze is not installed")
    result = subprocess.run(
        [program, "verify", "--man=no", str(DEPLOY / "onetrip.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "onetrip.service" not in result.stderr
