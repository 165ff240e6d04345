"""Print docs/cli.md: every command with its arguments and options, read off the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from onetrip.cli.main import app

HEAD = """# Command line

`onetrip` is a client of the [admin API](api.md), apart from `run`, `check`, `demo`, `relay`,
`simulate`, `import` and `envoy bootstrap`. This page is made from the commands by `make docs`; a
test keeps the two equal.

Every command that talks to a node takes `--api URL` (`ONETRIP_API`; `http://127.0.0.1:9400`) and
`--token-file FILE` (else `ONETRIP_TOKEN`). `--json` prints the API's reply, to be read by programs;
a failure then is an object, too: `error`, `kind`, `field`, `exit_code`. Changes take `--dry-run`
where the API has it. Long work shows its progress on a terminal, and nowhere else.

| exit code | when |
| --- | --- |
| 0 | done |
| 1 | refused or failed |
| 2 | wrong usage, or a configuration that cannot be used |
| 3 | the admin API cannot be reached |
| 4 | `import` left something out; the result was written all the same |

Words are completed in bash, zsh and fish (projects, environments, deployments and regions by asking
the node): `onetrip --install-completion`, or `onetrip --show-completion` to put it where you want.
"""

COMMON = {"--api", "--token-file", "--json", "--dry-run", "--help"}
"""Options that the head of the page tells about."""


def page() -> str:
    """Return the page's text."""
    parts = [HEAD]
    for path, command in commands((), typer.main.get_command(app)):
        parts.append(f"## `onetrip {' '.join(path)}`\n")
        parts.append((command.help or "").split("\f")[0].strip() + "\n")
        usage = " ".join(["onetrip", *path, *(_usage(each) for each in _shown(command))])
        common = [o for o in ("--dry-run", "--json") if any(o in p.opts for p in command.params)]
        parts.append(f"`{usage}`" + "".join(f" `[{option}]`" for option in common) + "\n")
        rows = [_row(each) for each in _shown(command) if getattr(each, "help", None)]
        if rows:
            parts.append("\n".join(["| | |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def commands(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, in the order of the help."""
    children = getattr(command, "commands", None)
    if children is None or command.invoke_without_command:
        yield path, command
    if children is None:
        return
    for name, child in children.items():
        if not child.hidden:
            yield from commands((*path, name), child)


def _shown(command: Any) -> list[Any]:
    return [p for p in command.params if not COMMON.intersection(p.opts)]


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).upper()
        return name if parameter.required else f"[{name}]"
    text = str(max(parameter.opts, key=len))
    if not parameter.is_flag:
        text += f" {parameter.name.upper().replace('_', '-')}"
    return text if parameter.required else f"[{text}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        names = ", ".join(f"`{o}`" for o in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {parameter.help} |"


if __name__ == "__main__":
    print(page(), end="")
