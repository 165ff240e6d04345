"""A node as a process: its signals, its exit code, and the memory it gives back."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path
from typing import IO

import uvloop

from onetrip.app.config import Settings, load_settings
from onetrip.app.node import Node
from onetrip.app.refusals import unraisable_hook
from onetrip.errors import ConfigError
from onetrip.observe.logs import stderr_log
from onetrip.timing import MonotonicClock

SWITCH_INTERVAL = 0.001
"""Longest time a busy thread keeps others from running, s; the default is five times that."""


def run(config_path: Path, region: str | None = None) -> int:
    """Run a node until SIGTERM or SIGINT; SIGHUP reloads.

    Returns:
        The process's exit code: 0 after a clean stop, 2 for a configuration that cannot be used.
    """
    # Scoring of many routes runs in a thread: it must give way to requests quickly.
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        settings = load_settings(config_path, region)
        return uvloop.run(_serve(settings))
    except ConfigError as error:
        print(f"onetrip: {error}", file=sys.stderr)
        return 2


async def _serve(settings: Settings) -> int:
    log = stderr_log(settings.log.level, MonotonicClock().wall)
    sys.unraisablehook = unraisable_hook(log, MonotonicClock())
    node = Node(settings, log=log, access=_access_sink(settings))
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload_quietly(node))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await node.start()
        give_back_memory()
        loop.call_later(0.5, give_back_memory)  # what the first rounds left as well
        await stopping.wait()
    finally:
        await node.stop()
    return 0


def give_back_memory() -> None:
    """Free what start-up left behind; what stays is never collected again."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def _reload_quietly(node: Node) -> None:
    # The refusal was logged and counted; a signal has nobody to answer.
    with contextlib.suppress(ConfigError):
        await node.reload()


def _access_sink(settings: Settings) -> IO[bytes] | None:
    where = settings.log.access
    if where == "off":
        return None
    if where == "stderr":
        return os.fdopen(os.dup(2), "wb")
    try:
        return Path(where).open("ab")
    except OSError as error:
        raise ConfigError(f"log.access: {where} cannot be opened: {error.strerror}") from error
