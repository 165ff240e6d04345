"""Words that the shell completes from what a node knows: projects, environments, deployments.

A shell waits for them, so a node that does not answer at once, or not at all, completes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from typer import Context

from onetrip.cli.client import DEFAULT_API, Client

TIMEOUT = 1.0
"""Longest wait for the node, s."""


def complete_project(context: Context, incomplete: str) -> list[str]:
    """Return the projects that begin so."""

    def find() -> Iterable[str]:
        from onetrip.control.projects import ProjectsBody

        client = _client(context)
        return [row.name for row in client.get(("projects",), ProjectsBody, {}).projects]

    return _matching(find, incomplete)


def complete_region(context: Context, incomplete: str) -> list[str]:
    """Return the regions that begin so."""

    def find() -> Iterable[str]:
        from onetrip.control.schemas import RegionsBody

        return [row.id for row in _client(context).get(("regions",), RegionsBody, {}).regions]

    return _matching(find, incomplete)


def complete_environment(context: Context, incomplete: str) -> list[str]:
    """Return the environments of the project given before that begin so."""

    def find() -> Iterable[str]:
        from onetrip.control.deployments import EnvironmentsBody

        path = ("projects", str(context.params["name"]), "environments")
        return [row.name for row in _client(context).get(path, EnvironmentsBody, {}).environments]

    return _matching(find, incomplete)


def complete_deployment(context: Context, incomplete: str) -> list[str]:
    """Return the deployments of the project given before that begin so, newest first."""

    def find() -> Iterable[str]:
        from onetrip.control.deployments import DeploymentsBody

        path = ("projects", str(context.params["name"]), "deployments")
        return [row.id for row in _client(context).get(path, DeploymentsBody, {}).deployments]

    return _matching(find, incomplete)


def _client(context: Context) -> Client:
    from onetrip.cli.secret import read_token

    api = context.params.get("api") or os.environ.get("ONETRIP_API") or DEFAULT_API
    return Client(str(api), read_token(context.params.get("token_file")), TIMEOUT)


def _matching(find: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    from onetrip.errors import OnetripError

    try:
        return [word for word in find() if word.startswith(incomplete)]
    except (OnetripError, OSError, KeyError):
        return []
