"""`onetrip demo`: a small world on this machine, in which a chatty project moves to its database.

Exit codes: 0 every promise was kept, 1 one was not or a part failed, 2 wrong usage or system.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from onetrip.errors import ConfigError, OnetripError
from onetrip.timing import MonotonicClock
from onetrip_lab.screen import Screen

if TYPE_CHECKING:
    # At run time these are imported late, so that a missing pg8000 is one clear line.
    from onetrip.control.schemas import SavingBody
    from onetrip_lab.acts import Show
    from onetrip_lab.mix import Window
    from onetrip_lab.verdict import Promise
    from onetrip_lab.world import World, WorldPlan

MIN_DURATION, USUAL_DURATION, MAX_DURATION = 40.0, 60.0, 86_400.0
"""Seconds; below the least one the slow requests are too few to compare."""

LONGEST_ACTS = 120.0
"""Seconds to which the acts are stretched with a long `--for`; after them the world stays up."""

MAX_USERS = 12
"""Users a region; two cores serve three dozen."""

MAX_FILE_SIZE = 64 * 1024

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Parse `60`, `60s`, `2m` or `1h` to seconds.

    Raises:
        argparse.ArgumentTypeError: not a duration, or outside the limits.
    """
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(s|m|min|h|)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 60s or 2m")
    duration = float(found[1]) * _UNITS[found[2]]
    if not MIN_DURATION <= duration <= MAX_DURATION:
        limits = f"{MIN_DURATION:g} to {MAX_DURATION:g} s"
        raise argparse.ArgumentTypeError(f"{text!r} is not within {limits}")
    return duration


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onetrip demo",
        description="Start regions, a database, an application and users on this machine, "
        "and show placement at work.",
    )
    add = parser.add_argument
    add("--for", dest="duration", type=parse_duration, metavar="60s", help="end after this long")
    add("--users", type=int, default=8, metavar="N", help=f"in each region, 1-{MAX_USERS}")
    add("--rtt-file", type=Path, metavar="CSV", help="square matrix of RTTs in ms")
    add("--database", choices=("auto", "postgres", "embedded"), default="auto")
    add("--json", action="store_true", help="print the outcome as JSON, the story on stderr")
    add("--keep", action="store_true", help="keep configuration and logs")
    add("--no-color", action="store_true")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if not 1 <= options.users <= MAX_USERS:
        parser.error(f"--users {options.users} is not in 1-{MAX_USERS}")
    if sys.platform != "linux":
        return _fail("the demo needs Linux, where every address of 127.0.0.0/8 is loopback", 2)
    try:
        import pg8000  # noqa: F401
    except ImportError:
        return _fail("the demo needs pg8000: pip install 'onetrip[demo]'", 2)
    from onetrip_lab.relay import precise_loop

    try:
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            return runner.run(_run(options, time.monotonic()))
    except ConfigError as error:
        return _fail(str(error), 2)
    except OnetripError as error:
        return _fail(str(error), 1)


def _fail(reason: str, code: int) -> int:
    print(f"onetrip demo: {reason}", file=sys.stderr)
    return code


async def _run(options: argparse.Namespace, started_at: float) -> int:
    """Run the demo; a signal ends it early, and never the clean-up."""
    from onetrip_lab.world import World

    screen = _screen(options)
    world = World(_read_plan(options), MonotonicClock())
    try:
        performance = asyncio.create_task(_perform(world, screen, options, started_at))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # The number becomes the message of the CancelledError that ends `await performance`.
            asyncio.get_running_loop().add_signal_handler(number, performance.cancel, number)
        return await performance
    except asyncio.CancelledError as error:
        return 128 + int(error.args[0] if error.args else signal.SIGINT)
    finally:
        await world.stop(options.keep)
        if options.keep:
            screen.line(f"configuration and logs: {world.folder}", "dim")


def _screen(options: argparse.Namespace) -> Screen:
    out = sys.stderr if options.json else sys.stdout
    is_terminal = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    # https://no-color.org
    has_color = is_terminal and not options.no_color and not os.environ.get("NO_COLOR")
    return Screen(out, is_terminal=is_terminal, has_color=has_color)


def _read_plan(options: argparse.Namespace) -> WorldPlan:
    from onetrip_lab.topology import default_matrix, parse_matrix
    from onetrip_lab.world import WorldPlan

    file: Path | None = options.rtt_file
    if file is None:
        return WorldPlan(default_matrix(), options.users, options.database)
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MAX_FILE_SIZE + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"--rtt-file {file} cannot be read: {reason}") from error
    if len(text) > MAX_FILE_SIZE:
        raise ConfigError(f"--rtt-file {file} exceeds limit of {MAX_FILE_SIZE} characters")
    return WorldPlan(parse_matrix(text, str(file)), options.users, options.database, False)


async def _perform(
    world: World, screen: Screen, options: argparse.Namespace, started_at: float
) -> int:
    from onetrip_lab.acts import Show, schedule

    _introduce(screen, world)
    await world.start()
    _present(screen, world)
    length = min(options.duration or USUAL_DURATION, LONGEST_ACTS)
    show = Show(world, screen, schedule(length))
    code = await _play(show, world, screen, options)
    if code == 0:
        await _stay_up(show, world, screen, options, started_at)
    return code


def _introduce(screen: Screen, world: World) -> None:
    matrix = world.matrix
    names = ", ".join(matrix.title(r) for r in matrix.regions)
    screen.line("onetrip demo", "bold")
    screen.line(f"  starting {names} on this machine ...", "dim")


def _present(screen: Screen, world: World) -> None:
    matrix, plan = world.matrix, world.plan
    product = world.database.product if world.database else "none"
    lines = [
        ("regions", ", ".join(map(matrix.full_name, matrix.regions))),
        ("database", f"{product} in {matrix.title(plan.database_region)}"),
        ("application", "one copy in every region; an order page asks the database 11 times"),
        ("distance", "a relay delays every byte between regions by half the real RTT each way"),
        ("dashboard", f"http://{world.addresses.admin(plan.edge)}/"),
    ]
    for name, value in lines:
        screen.line(f"  {name:<12} {value}")


async def _play(show: Show, world: World, screen: Screen, options: argparse.Namespace) -> int:
    from onetrip_lab.verdict import judge

    await show.measure()
    before = await show.before()
    await show.decide()
    after = await show.after(before)
    back = await show.back(before)
    records = world.records
    promises = judge(world.plan.edge, before, after, back, records.total, records.failures)
    _tell_promises(screen, promises, records.last_failure)
    if options.json:
        windows = {"off": before, "smart": after, "off_again": back}
        print(_as_json(world, promises, windows, show.saving), flush=True)
    broken = [p for p in promises if not p.is_kept]
    if broken:
        _fail(f"broken promise: {broken[0].text}: {broken[0].detail}", 1)
    return 1 if broken else 0


def _tell_promises(screen: Screen, promises: list[Promise], last_failure: str) -> None:
    screen.heading("Promises")
    for promise in promises:
        mark = screen.paint("kept  ", "green") if promise.is_kept else screen.paint("BROKEN", "red")
        screen.line(f"  {mark}  {promise.text}")
        screen.line(f"          {promise.detail}", "dim")
    if last_failure:
        screen.line(f"          last failure: {last_failure}", "red")


def _as_json(
    world: World,
    promises: list[Promise],
    windows: dict[str, Window],
    saving: SavingBody | None,
) -> str:
    from onetrip_lab.verdict import all_kept, medians

    regions = world.matrix.regions
    outcome = {
        "kept": all_kept(promises),
        "promises": [{"promise": p.text, "kept": p.is_kept, "detail": p.detail} for p in promises],
        "database": world.database.product if world.database else "",
        "requests": world.records.total,
        "failures": world.records.failures,
        "p50_ms": {name: medians(regions, window) for name, window in windows.items()},
        "saving": saving,
    }
    return msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode()


async def _stay_up(
    show: Show, world: World, screen: Screen, options: argparse.Namespace, started_at: float
) -> None:
    """Keep the world going: to the end of `--for`, else until interrupted."""
    screen.line()
    if options.duration is None:
        await show.resume()
        screen.line(
            f"The world stays up, placement smart: http://{world.addresses.admin(world.plan.edge)}/"
            "  (Ctrl-C ends it)",
            "bold",
        )
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await world.wait(3600)
    left = (options.duration or 0) - (time.monotonic() - started_at) - 2.0
    if left > 5:
        await show.resume()
        screen.line(f"placement smart for the last {left:.0f} s", "dim")
        await world.wait(left)


if __name__ == "__main__":
    sys.exit(main())
