"""The demo's acts: what is done to the world, and what is shown of it.

One act is one question a sceptic would ask: are the RTTs right, how slow is it now, what does
onetrip decide and why, is it really faster, and does switching it off undo everything?
"""

from __future__ import annotations

from dataclasses import dataclass

from onetrip.control.schemas import DecisionBody, RttRow, SavingBody
from onetrip_lab.mix import ROUTES, Window
from onetrip_lab.screen import Cell, Screen, ms
from onetrip_lab.verdict import CHATTY, is_same
from onetrip_lab.world import CONTROL_RATIO, PROJECT, World

REFRESH = 0.5
"""Period of live tables, s."""

MEASURE_TIMEOUT = 10.0
"""Longest wait for every RTT to be measured, s."""

SETTLE = 0.5
"""Time after a placement before its latency counts, s: cold connections are opened meanwhile."""

GOOD_RTT = 0.10
"""Largest error of a measured RTT shown as right; ratio, above 1 ms of noise."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length of each act, s."""

    before: float
    decide: float
    after: float
    back: float


def schedule(total: float) -> Schedule:
    """Share out a demo of `total` s; about a seventh is left for starting and stopping."""
    return Schedule(0.20 * total, 0.17 * total, 0.25 * total, 0.16 * total)


class Show:
    """Runs the acts one after the other on a started world."""

    def __init__(self, world: World, screen: Screen, times: Schedule) -> None:
        self._world = world
        self._screen = screen
        self._times = times
        self._edge = world.plan.edge
        self._node = world.admin(self._edge)
        self.saving: SavingBody | None = None
        """What the nodes measured for the chatty route; known after act 4."""

    async def measure(self) -> None:
        """Act 1: wait for RTTs and compare them with the truth."""
        screen, world = self._screen, self._world
        screen.heading("1  Measure: RTTs that the nodes found with their probes, ms")
        deadline = world.clock.now() + MEASURE_TIMEOUT
        while True:
            rows = await self._all_rtts()
            lines = self._rtt_table(rows)
            missing = sum(line.count("?") for line in lines)
            if not missing or world.clock.now() > deadline:
                break
            screen.live(lines)
            await world.wait(REFRESH)
        screen.block([*lines, "  in brackets: the true RTT, from " + self._source()])

    async def before(self) -> Window:
        """Act 2: placement off, users come in; return what they saw."""
        world = self._world
        users = world.plan.users_per_region
        self._screen.heading(
            f"2  Placement off: {users} users in every region, each served where it arrives"
        )
        world.let_users_in()
        start = world.clock.now()
        await self._watch(self._times.before, start)
        window = world.records.window(start)
        self._screen.block(self._latency_table(window))
        return window

    async def decide(self) -> None:
        """Act 3: switch the toggle and follow the decisions."""
        screen, world = self._screen, self._world
        screen.heading("3  Placement smart")
        await self._toggle("smart")
        start, seen = world.clock.now(), dict[tuple[str, str, str], tuple[str, str]]()
        while world.clock.now() - start < self._times.decide:
            decisions = [
                d for r in world.matrix.regions for d in await world.admin(r).decisions(PROJECT, r)
            ]
            for decision in decisions:
                self._tell(decision, world.clock.now() - start, seen)
            if _is_settled(decisions, self._edge):
                break
            await world.wait(0.2)
        await world.wait(SETTLE)

    async def after(self, before: Window) -> Window:
        """Act 4: the same users, placed; return what they saw."""
        screen, world = self._screen, self._world
        screen.heading("4  Before and after, seen by the users")
        start = world.clock.now()
        await self._watch(self._times.after, start, before)
        window = world.records.window(start)
        screen.block(self._comparison(before, window))
        await self._tell_saving()
        await self._explain()
        return window

    async def back(self, before: Window) -> Window:
        """Act 5: switch off; return what users saw."""
        screen, world = self._screen, self._world
        screen.heading("5  Placement off again")
        await self._toggle("off")
        start = world.clock.now() + SETTLE
        await self._watch(self._times.back, start)
        window = world.records.window(start)
        screen.block(self._comparison(before, window))
        return window

    async def resume(self) -> None:
        """Leave the world with placement smart."""
        await self._toggle("smart")

    async def _toggle(self, mode: str) -> None:
        command = ("project", "set", PROJECT, "--placement", mode)
        self._screen.line(f"  $ onetrip {' '.join(command)} --api {self._node.url}", "cyan")
        await self._node.command(*command)

    async def _tell_saving(self) -> None:
        """Say what the nodes themselves measured: placed requests against the control group."""
        decision = await self._chatty_decision()
        saving = self.saving = decision.saving if decision else None
        self._screen.line()
        if saving is None or saving.mean_ms is None:
            self._screen.line("  the nodes have too little traffic yet to measure the saving")
        else:
            interval = ""
            if saving.low_ms is not None and saving.high_ms is not None:
                interval = (
                    f", {saving.confidence:.0%} interval {saving.low_ms:,.0f} .. "
                    f"{saving.high_ms:,.0f} ms"
                )
            self._screen.line(
                f"  saving measured by the nodes for {CHATTY} from {self._edge}: "
                f"{saving.mean_ms:,.0f} ms a request{interval}"
            )
        for line in (
            f"  ({CONTROL_RATIO:.0%} of placed requests stay at the edge as a control group; the",
            "  default is 1 %, which needs longer than a demo to give an interval)",
        ):
            self._screen.line(line, "dim")

    async def _chatty_decision(self) -> DecisionBody | None:
        decisions = await self._node.decisions(PROJECT, self._edge)
        return next((d for d in decisions if d.route.startswith(CHATTY)), None)

    async def _explain(self) -> None:
        decision = await self._chatty_decision()
        route = decision.route if decision else CHATTY
        command = ("explain", PROJECT, "--edge", self._edge, "--route", route)
        shown = " ".join(f"'{w}'" if "{" in w else w for w in command)
        self._screen.line()
        self._screen.line(f"  $ onetrip {shown} --api {self._node.url}", "cyan")
        text = await self._node.command(*command)
        self._screen.block([f"  {line}" for line in text.splitlines()])

    async def _watch(self, duration: float, start: float, before: Window | None = None) -> None:
        """Redraw the latencies of requests since `start` for `duration` s."""
        world = self._world
        end = start + duration
        while (left := end - world.clock.now()) > 0:
            window = world.records.window(start)
            table = self._comparison(before, window) if before else self._latency_table(window)
            self._screen.live([*table, f"  {left:.0f} s left"])
            await world.wait(min(REFRESH, left))

    async def _all_rtts(self) -> dict[tuple[str, str, str], RttRow]:
        rows = [
            row
            for region in self._world.matrix.regions
            for row in await self._world.admin(region).rtts()
            if row.source == region
        ]
        return {(row.source, row.kind, row.target): row for row in rows}

    def _rtt_table(self, rows: dict[tuple[str, str, str], RttRow]) -> list[str]:
        matrix, database = self._world.matrix, self._world.plan.database_region
        heads = ["from", *(f">{r}" for r in matrix.regions), f">database in {database}"]
        lines: list[list[Cell]] = []
        for source in matrix.regions:
            line: list[Cell] = [matrix.title(source)]
            for target in matrix.regions:
                cell = rows.get((source, "peer", target))
                own = source == target
                line.append("." if own else _rtt_cell(cell, matrix.rtt(source, target)))
            cell = rows.get((source, "backend", "orders-db"))
            lines.append([*line, _rtt_cell(cell, matrix.rtt(source, database))])
        return self._screen.table(heads, lines)

    def _source(self) -> str:
        return "Azure's statistics of June 2025" if self._world.plan.is_default else "the file"

    def _latency_table(self, window: Window) -> list[str]:
        matrix = self._world.matrix
        heads = ["p50, ms", *(f">{r.name}" for r in ROUTES), ">requests"]
        rows: list[list[Cell]] = []
        for region in matrix.regions:
            cells: list[Cell] = [matrix.title(region)]
            cells += [ms(window.p50(region, r.name)) for r in ROUTES]
            count = sum(window.count(region, r.name) for r in ROUTES)
            rows.append([*cells, f"{count:,}"])
        return self._screen.table(heads, rows)

    def _comparison(self, before: Window, after: Window) -> list[str]:
        heads = ["p50, ms", "route", ">before", ">now", ">faster", "runs in"]
        rows: list[list[Cell]] = []
        for region in self._world.matrix.regions:
            for number, route in enumerate(ROUTES):
                title = "" if number else self._world.matrix.title(region)
                old, new = before.p50(region, route.name), after.p50(region, route.name)
                where = after.usual_placement(region, route.name)
                rows.append([title, route.name, ms(old), ms(new), _ratio(old, new), where])
        return self._screen.table(heads, rows)

    def _tell(
        self,
        decision: DecisionBody,
        at: float,
        seen: dict[tuple[str, str, str], tuple[str, str]],
    ) -> None:
        """Print a decision when its status or region differs from the last one told."""
        key = (decision.edge, decision.method, decision.route)
        where = decision.regions[0] if decision.regions else "nowhere"
        news = (decision.status, where)
        if decision.status == "off" or seen.get(key) == news:
            return
        seen[key] = news
        reason = decision.missing if decision.status == "analyzing" else decision.reason
        style = {"placed": "green", "analyzing": "yellow"}.get(decision.status, "")
        width = max(map(len, self._world.matrix.regions))
        name = f"{decision.edge:<{width}} {decision.method:<5} {decision.route:<12}"
        status = f"placed in {where}" if decision.status == "placed" else decision.status
        status = self._screen.paint(status.ljust(width + len("placed in ")), style)
        self._screen.line(f"  {at:5.1f} s  {name}  {status}  {reason}")


def _is_settled(decisions: list[DecisionBody], edge: str) -> bool:
    """Nothing is being analyzed any more, and the chatty route has moved."""
    if any(d.status in ("analyzing", "off") for d in decisions):
        return False
    return any(
        d.edge == edge and d.route.startswith(CHATTY) and d.status == "placed" for d in decisions
    )


def _rtt_cell(row: RttRow | None, truth: float) -> Cell:
    if row is None or row.rtt_ms is None:
        return f"? ({truth * 1000:.4g})"
    is_right = abs(row.rtt_ms / 1000 - truth) <= GOOD_RTT * truth + 0.001
    return f"{row.rtt_ms:.1f} ({truth * 1000:.4g})", "green" if is_right else "yellow"


def _ratio(old: float | None, new: float | None) -> Cell:
    if old is None or not new:
        return "-"
    if is_same(old, new):
        return "same", "dim"
    return f"{old / new:.1f}x", "green" if old / new >= 1.5 else ""
