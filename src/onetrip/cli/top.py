"""`onetrip top`: regions, the busiest routes and what happens, on one screen that goes on.

Latencies are those of the last 15 minutes; requests a second come from the growth of their counts
between two looks, and are a dash at the first one.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from onetrip.cli.client import DEFAULT_API, Client
from onetrip.cli.options import Api, AsJson, TokenFile, make_client
from onetrip.timing import MonotonicClock, pause

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onetrip.control.schemas import EventRow, LatencyRow, RegionRow, StatusBody

CLOCK = MonotonicClock()

EVENTS = 6
"""Events on the screen."""


class Order(StrEnum):
    """Values of `--sort`."""

    REQUESTS = "requests"
    P50 = "p50"
    P95 = "p95"
    SAVING = "saving"


KEYS = {"r": Order.REQUESTS, "5": Order.P50, "9": Order.P95, "s": Order.SAVING}
"""Keys that sort."""


@dataclass(slots=True)
class RouteLine:
    """One route at one edge.

    Attributes:
        rate: requests a second; None at the first look.
        where: region where most of its requests run, or "".
        saving_ms: measured, a request; None where there is none.
    """

    name: str
    method: str
    edge: str
    requests: int
    rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    where: str
    saving_ms: float | None


@dataclass(slots=True)
class Screen:
    """What is shown at one moment."""

    status: StatusBody
    regions: list[RegionRow]
    routes: list[RouteLine]
    events: list[EventRow] = field(default_factory=list)


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Between two looks, s.")] = 2.0,
    sort: Annotated[Order, typer.Option(help="Routes by this.")] = Order.REQUESTS,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end.")] = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show regions, the busiest routes and events, and go on; q ends, r 5 9 s sort."""
    watch = Watch(make_client(api, token_file), project, CLOCK.now)
    if as_json:
        _print_json(watch.look(sort))
        return
    if once or not sys.stdout.isatty():
        print(text_of(watch.look(sort)))
        return
    _show(watch, interval, sort)


class Watch:
    """Looks at a node again and again.

    Args:
        now: monotonic time, s.
    """

    def __init__(self, client: Client, project: str | None, now: Callable[[], float]) -> None:
        self._client = client
        self._project = project
        self._now = now
        self._counts: dict[tuple[str, ...], int] = {}
        self._at: float | None = None

    def look(self, order: Order) -> Screen:
        """Return what there is to see now.

        Raises:
            OnetripError: the node refused, or did not answer.
        """
        from onetrip.control.schemas import (
            EventsBody,
            ExplainBody,
            LatenciesBody,
            RegionsBody,
            StatusBody,
        )

        client = self._client
        status = client.get(("status",), StatusBody, {})
        regions = client.get(("regions",), RegionsBody, {}).regions
        rows = client.get(("latencies",), LatenciesBody, {"project": self._project}).latencies
        found: dict[tuple[str, ...], tuple[str, float | None]] = {}
        for name in sorted({row.project for row in rows}):
            body = client.get(("projects", name, "explain"), ExplainBody, {})
            for each in body.decisions:
                key = (name, each.environment, each.route, each.method, each.edge)
                where = each.regions[0] if each.regions else ""
                found[key] = where, each.saving.mean_ms if each.saving is not None else None
        events = client.get(("events",), EventsBody, {"limit": str(EVENTS)}).events
        return Screen(status, regions, sorted_by(self._lines(rows, found), order), events)

    def _lines(
        self,
        rows: Iterable[LatencyRow],
        found: Mapping[tuple[str, ...], tuple[str, float | None]],
    ) -> list[RouteLine]:
        groups: dict[tuple[str, ...], list[LatencyRow]] = {}
        for row in rows:
            key = (row.project, row.environment, row.route, row.method, row.edge)
            groups.setdefault(key, []).append(row)
        now, before, lines = self._now(), self._at, list[RouteLine]()
        for place, arms in groups.items():
            project, environment, route, method, edge = place
            count, busiest = sum(a.requests for a in arms), max(arms, key=lambda a: a.requests)
            rate = None
            if before is not None and place in self._counts:
                # Old requests leave the window meanwhile, so less than nothing may have come.
                rate = max(0.0, (count - self._counts[place]) / max(now - before, 1e-3))
            self._counts[place] = count
            where, saving = found.get(place, ("", None))
            name = f"{project}/{environment} {route}"
            lines.append(
                RouteLine(
                    name,
                    method,
                    edge,
                    count,
                    rate,
                    busiest.p50_ms,
                    busiest.p95_ms,
                    where,
                    saving,
                )
            )
        self._at = now
        return lines


def sorted_by(lines: Iterable[RouteLine], order: Order) -> list[RouteLine]:
    """Return lines with the largest first; what is not known comes last."""

    def key(line: RouteLine) -> tuple[float, str]:
        value = {
            Order.REQUESTS: line.rate if line.rate is not None else float(line.requests),
            Order.P50: line.p50_ms,
            Order.P95: line.p95_ms,
            Order.SAVING: line.saving_ms,
        }[order]
        return (-value if value is not None else float("inf"), line.name)

    return sorted(lines, key=key)


def text_of(screen: Screen, most: int | None = None) -> str:
    """Return a screen as text.

    Args:
        most: routes at most; None for all.
    """
    from onetrip.cli.render import duration, ms, plain, table

    status = screen.status
    head = (
        f"{plain(status.region)} {status.state}, up {duration(status.uptime)}, "
        f"{status.regions_alive} of {status.regions} regions, {status.projects} projects"
    )
    regions = table(
        ("REGION", "NODE", ">READY"),
        ((plain(r.id), _liveness(r), f"{r.instances_ready}/{r.instances}") for r in screen.regions),
    )
    heads = (">REQ/S", ">P50 ms", ">P95", "ROUTE", "METHOD", "EDGE", "RUNS IN", ">SAVES ms")
    routes = table(
        heads,
        (
            (
                f"{line.rate:.1f}" if line.rate is not None else "-",
                ms(line.p50_ms),
                ms(line.p95_ms),
                plain(line.name),
                line.method,
                plain(line.edge),
                plain(line.where) or "-",
                ms(line.saving_ms),
            )
            for line in screen.routes[:most]
        ),
    )
    problems = [f"! {plain(problem)}" for problem in status.problems]
    events = [
        f"{time.strftime('%H:%M:%S', time.gmtime(event.at))}  {event.name}  "
        f"{plain(event.subject)}  {plain(event.detail)}"
        for event in screen.events
    ]
    return "\n".join([head, *problems, "", regions, "", routes, "", *events])


def _liveness(row: RegionRow) -> str:
    if row.is_draining:
        return "draining"
    return {True: "alive", False: "silent", None: "no node"}[row.is_alive]


def _print_json(screen: Screen) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(screen), indent=2).decode())


def _show(watch: Watch, interval: float, order: Order) -> None:
    """Show screens until q or Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    from onetrip.errors import OnetripError

    console, shown = Console(), ""
    with Live(console=console, screen=True, auto_refresh=False) as live, _raw_keys() as read_key:
        while True:
            try:
                # Regions, events and headings take about 16 lines.
                most = max(3, console.size.height - 16 - EVENTS)
                shown = text_of(watch.look(order), most)
            except OnetripError as error:
                shown = f"{error}\n\n{shown}"
            live.update(_cropped(shown), refresh=True)
            deadline = CLOCK.now() + interval
            while (left := deadline - CLOCK.now()) > 0:
                key = read_key(left)
                if key == "q":
                    return
                if key in KEYS:
                    order = KEYS[key]
                    break


def _cropped(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="crop")


@contextlib.contextmanager
def _raw_keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits so many seconds for a key, and returns it or ""."""
    if not sys.stdin.isatty() or sys.platform == "win32":  # Ctrl-C ends it
        yield _wait
        return
    import select
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def read(timeout: float) -> str:
        ready, _, _ = select.select([fd], [], [], timeout)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(fd)
        yield read
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _wait(timeout: float) -> str:
    pause(timeout)
    return ""
