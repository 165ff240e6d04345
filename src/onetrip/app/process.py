"""A node as a process: its signals, its exit code, and the memory it gives back."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO

import uvloop

from onetrip.app.config import Settings, load_settings
from onetrip.app.inheritance import Inheritance, take
from onetrip.app.node import Node
from onetrip.app.notify import Notifier
from onetrip.app.refusals import unraisable_hook
from onetrip.app.request_logs import open_lines
from onetrip.errors import ConfigError, OnetripError
from onetrip.observe.logs import stderr_log
from onetrip.timing import MonotonicClock

ADVISE = "--advise"
"""Argument of `onetrip.cli.launch` after which a node takes no traffic."""

SWITCH_INTERVAL = 0.001
"""Longest time a busy thread keeps others from running, s; the default is five times that."""


def run(config_path: Path, region: str | None = None, *, advise: bool = False) -> int:
    """Run a node until SIGTERM or SIGINT; SIGHUP reloads, SIGUSR2 hands over to a successor.

    Args:
        advise: take no traffic, whatever the file says.

    Returns:
        The process's exit code: 0 after a clean stop, 2 for a configuration that cannot be used.
    """
    # Scoring of many routes runs in a thread: it must give way to requests quickly.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What is made at the start stays: to look through it for cycles, again and again, takes longer
    # than to make it. `give_back_memory` collects what there are, and goes on.
    gc.disable()
    inheritance = Inheritance()
    try:
        inheritance = take(os.environ)
        settings = load_settings(config_path, region, advise=advise)
        return uvloop.run(_serve(settings, inheritance))
    except ConfigError as error:
        inheritance.tell_failed(str(error))
        print(f"onetrip: {error}", file=sys.stderr)
        return 2


async def _serve(settings: Settings, inheritance: Inheritance) -> int:
    log = stderr_log(settings.log.level, MonotonicClock().wall)
    sys.unraisablehook = unraisable_hook(log, MonotonicClock())
    node = Node(settings, log=log, access=_access_sink(settings), inheritance=inheritance)
    notifier, stopping = Notifier(), asyncio.Event()
    node.prepare_upgrade(command_of(settings), notifier, stopping.set)
    _heed_signals(node, notifier, stopping)
    try:
        await node.start()
        if not inheritance.has_predecessor:  # which else tells that this process is the service
            notifier.ready()
        give_back_memory()
        # What the first rounds left as well.
        asyncio.get_running_loop().call_later(0.5, give_back_memory)
        await stopping.wait()
        if not node.is_succeeded:
            notifier.stopping()
    finally:
        await node.stop()
    return 0


def command_of(settings: Settings) -> list[str]:
    """Return the command line that starts a node of this file and region, as `onetrip run` does.

    The interpreter is named as this process was started, links and all: one that by then leads to
    another installation starts that one.
    """
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [
        *(sys.executable, *flags, "-m", "onetrip.cli.launch"),
        *(str(settings.path), settings.region),
        *([ADVISE] if settings.is_told_to_advise else []),
    ]


def _heed_signals(node: Node, notifier: Notifier, stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    def start(work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = loop.create_task(work())
        running.add(task)
        task.add_done_callback(running.discard)

    async def reload() -> None:
        notifier.reloading()
        # The refusal was logged and counted; a signal has nobody to answer.
        with contextlib.suppress(ConfigError):
            await node.reload()
        notifier.ready()

    async def upgrade() -> None:
        with contextlib.suppress(OnetripError):
            await node.upgrade()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, start, reload)
    loop.add_signal_handler(signal.SIGUSR2, start, upgrade)


def give_back_memory() -> None:
    """Free what start-up left behind; what stays is never collected again."""
    gc.collect()
    gc.freeze()
    gc.enable()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _access_sink(settings: Settings) -> IO[bytes] | None:
    where = settings.log.access
    if where == "off":
        return None
    if where == "stderr":
        return os.fdopen(os.dup(2), "wb", buffering=0)
    return open_lines(where, "log.access")
