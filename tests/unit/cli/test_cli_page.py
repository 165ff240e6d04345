"""docs/cli.md is what the commands say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_page_is_what_the_script_prints():
    spec = importlib.util.spec_from_file_location("cli_page", ROOT / "scripts" / "cli_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert text == module.page(), "run `make docs`"


def test_every_command_that_reads_can_print_json():
    import typer.main

    from onetrip.cli.main import app

    silent = {
        "run", "check", "demo", "relay", "version", "rollback", "delete", "revoke", "unbind",
        "remove", "bootstrap",
    }  # fmt: skip

    def walk(name, command):
        for child, each in getattr(command, "commands", {}).items():
            yield from walk(child, each)
        if not hasattr(command, "commands"):
            yield name, {option for p in command.params for option in p.opts}

    for name, options in walk("", typer.main.get_command(app)):
        assert "--json" in options or name in silent, name
