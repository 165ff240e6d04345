"""A real nginx for tests, in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.servers import RunningServer, require_program, running_server

_MAIN = """
daemon off;
worker_processes 1;
{user}pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{ text/css css; text/html html; }}
{sites}
}}
"""


def nginx_config(folder: Path, sites: str) -> Path:
    """Write a whole configuration around `sites`, and return its file."""
    path = folder / "nginx.conf"
    path.write_text(_MAIN.format(folder=folder, sites=sites, user=_user()))
    return path


@contextmanager
def running_nginx(config: Path, port: int) -> Iterator[RunningServer]:
    """Run nginx with a configuration that listens on `port` of loopback."""
    program = require_program("nginx")
    with running_server([program, "-p", str(config.parent), "-c", str(config)], port) as it:
        yield it


def _user() -> str:
    # As root its workers would run as nobody, who may not read the folders of the tests.
    return "user root;\n" if os.geteuid() == 0 else ""
