"""Measure the placement bars on every matrix and trace, and write docs/placement-bars.md.

Run: make bars   (python scripts/bars.py [--seeds N] [--only NAME] [--out FILE])
About half an hour on two cores with 20 seeds.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onetrip.model.topology import RegionId
from onetrip.simulate.engine import Settings
from onetrip.simulate.report import RIGHT_RATIO, Result, measure, trip_errors
from onetrip.simulate.scenario import ROUTES, draw_world, parse_matrix
from onetrip.simulate.summary import first_rights, median
from onetrip.simulate.timeline import timeline
from onetrip.simulate.trial import Plan, run_trial
from onetrip.simulate.world import (
    BackendMove,
    Deploy,
    Event,
    Floats,
    PathShift,
    PathTrace,
    RegionFault,
    RouteTruth,
    World,
)

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
MATRICES = ("3", "5", "12", "48_azure", "60_multicloud", "236_world")

KINDS = ("steady", "trips", "single", "move", "death", "path", "deploy")

SETTINGS = Settings(score_interval=1.0)
"""A node scores twice a second; once is enough here and halves the time."""

EDGES = 4
STEADY, WARM_UP = 300.0, 100.0
EVENT_AT, EVENT_RUN = 100.0, 220.0
DEPLOY_RUN, DEPLOY_COUNT = 700.0, 45_000
SAMPLE = 5.0
"""Trace samples are replayed one a probe interval, s: 48 times as fast as they were taken."""

TRACED = "48_azure"
"""Matrix that traces are laid over."""

TRIPS = (3, 5, 8, 12, 20, 35, 50)
SINGLE = (3, 6, 11, 20)
"""Round trips of the lone user's route, by seed."""

LIMITS = {
    "mean": 1.02,
    "trips": 0.5,
    "first": 50.0,
    "explored": 0.01,
    "edge": 1.02,
    "jitter": 0.0,
    "move": 60.0,
    "death": 60.0,
}
"""The bars; what is measured without one is there to understand the others."""

TITLES = {
    "mean": "mean latency, x oracle, steady state",
    "trips": "learned round trips, worst error (truth 3-50, one backend)",
    "first": "requests to the first right placement, one user, worst",
    "explored": "explored, share of requests, worst run",
    "edge": "worst edge, x edge execution",
    "jitter": "placement changes under pure jitter",
    "move": "right again after the database moved, worst, s",
    "death": "right again after a region died, worst, s",
    "path": "right again after the RTT of a path shifted, worst, s",
    "deploy": "right again after new code changed a route's round trips, worst, s",
    "right": "placements that are not right at the end of a steady run",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One trial: a kind of world on a matrix, or on a trace slice laid over a matrix."""

    kind: str
    matrix: str
    seed: int
    slice: int = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `result` is None where the world offers nothing to measure."""

    job: Job
    result: Result | None


def main() -> None:
    """Run the jobs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="", help="part of a matrix name, or ripe")
    parser.add_argument("--kind", default="", help="one kind of trial")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "placement-bars.md")
    options = parser.parse_args()
    jobs = [
        job
        for job in all_jobs(options.seeds)
        if options.only in (job.matrix if job.slice < 0 else "ripe") and options.kind in job.kind
    ]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(run, jobs, chunksize=1):
            outcomes.append(outcome)
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)} of {len(jobs)} trials", end="", file=sys.stderr)
    page = render(outcomes, options.seeds)
    options.out.write_text(page, encoding="utf-8")
    print(page)


def all_jobs(seeds: int) -> list[Job]:
    """Return every trial, the slow ones first."""
    jobs = [Job(k, m, s) for m in reversed(MATRICES) for k in KINDS for s in range(seeds)]
    fewer = range(max(1, seeds // 4))
    jobs += [Job("bare", m, s) for m in reversed(MATRICES) for s in fewer]
    quiet, rises = len(slices("quiet")), len(slices("rise"))
    rounds = max(1, seeds // quiet + (seeds % quiet > 0))
    jobs += [Job("quiet", TRACED, s, i) for i in range(quiet) for s in range(rounds)]
    jobs += [Job("rise", TRACED, s, i) for i in range(rises) for s in range(max(1, seeds // rises))]
    return jobs


def run(job: Job) -> Outcome:
    """Run one trial."""
    plan = PLANS[job.kind](job)
    return Outcome(job, None if plan is None else measure(run_trial(plan)))


# --- worlds ---------------------------------------------------------------------------------


def steady_plan(job: Job) -> Plan | None:
    """An ordinary project, nothing changes."""
    world = draw_world(*matrix(job.matrix), luck(job), edges=EDGES)
    return Plan(world, job.seed, STEADY, 30_000, WARM_UP, SETTINGS)


def bare_plan(job: Job) -> Plan | None:
    """The same as `steady_plan` without a control group: what the control group costs."""
    world = draw_world(*matrix(job.matrix), luck(replace(job, kind="steady")), edges=EDGES)
    policy = replace(SETTINGS.policy, control_ratio=0.0)
    return Plan(world, job.seed, STEADY, 30_000, WARM_UP, replace(SETTINGS, policy=policy))


def trips_plan(job: Job) -> Plan | None:
    """Routes of 3 to 50 round trips to one backend."""
    routes = tuple(RouteTruth(f"/t{n}", {"db": n}, compute=0.005) for n in TRIPS)
    world = draw_world(*matrix(job.matrix), luck(job), routes=routes, edges=3)
    return Plan(world, job.seed, 200.0, 10_000, WARM_UP, SETTINGS)


def single_plan(job: Job) -> Plan | None:
    """One user in one city, one route, nothing else known; the edge is not the right place."""
    rng = luck(job)
    route = RouteTruth("/only", {"db": SINGLE[job.seed % len(SINGLE)]}, compute=0.005)
    for _ in range(50):
        world = draw_world(*matrix(job.matrix), rng, routes=(route,), edges=1)
        times = timeline(world).expected(world)[0, 0, 0]
        own = world.regions.index(next(iter(world.edges)))
        if times[own] > max(1.02 * times.min(), times.min() + 0.010):
            return Plan(world, job.seed, 200.0, 200, 200.0, Settings())
    return None


def event_plan(
    job: Job, event: Callable[[World, np.random.Generator], Event | None]
) -> Plan | None:
    """An ordinary project to which one thing happens."""
    rng = luck(job)
    world = draw_world(*matrix(job.matrix), rng, routes=ROUTES[2:], edges=EDGES)
    found = event(world, rng)
    if found is None:
        return None
    world = replace(world, events=(found,))
    return Plan(world, job.seed, EVENT_RUN, 15_000, EVENT_AT, SETTINGS)


def backend_moves(world: World, rng: np.random.Generator) -> Event | None:
    """The database moves to any other region."""
    others = [r for r in sorted(world.regions) if r != world.backends["db"]]
    return BackendMove(EVENT_AT, "db", others[int(rng.integers(len(others)))])


def region_dies(world: World, rng: np.random.Generator) -> Event | None:
    """The region that is best for most routes of other edges dies."""
    target = favourite(world)
    return RegionFault(EVENT_AT, target) if target is not None else None


def path_doubles(world: World, rng: np.random.Generator) -> Event | None:
    """The path between the first edge and the region best for it becomes twice as long."""
    edge, target = next(iter(world.edges)), favourite(world)
    if target is None or edge == target:
        return None
    return PathShift(EVENT_AT, edge, target, 2.0)


def deploy_plan(job: Job) -> Plan | None:
    """A new deployment: a route stops asking in a loop, or begins to."""
    rng = luck(job)
    world = draw_world(*matrix(job.matrix), rng, routes=ROUTES[2:], edges=EDGES)
    route = world.routes[int(rng.integers(len(world.routes)))]
    factor = (0.0, 4.0)[job.seed % 2]
    trips = {name: round(factor * count) for name, count in route.trips.items()}
    world = replace(world, events=(Deploy(EVENT_AT, route.name, trips),))
    return Plan(world, job.seed, DEPLOY_RUN, DEPLOY_COUNT, EVENT_AT, SETTINGS)


def favourite(world: World) -> RegionId | None:
    """Return the region that is truly best for most routes at edges other than itself."""
    best = timeline(world).expected(world)[0].argmin(axis=2)
    votes: dict[RegionId, int] = {}
    for row, edge in zip(best, world.edges, strict=True):
        for column in row:
            region = world.regions[column]
            if region != edge:
                votes[region] = votes.get(region, 0) + 1
    return max(votes, key=lambda r: (votes[r], r)) if votes else None


def quiet_plan(job: Job) -> Plan | None:
    """The path from the first edge to its favourite region follows a trace without a shift."""
    world = draw_world(*matrix(job.matrix), luck(job), routes=ROUTES[2:], edges=3)
    target, edge = favourite(world), next(iter(world.edges))
    if target is None or edge == target:
        return None
    return traced(job, world, edge, target, WARM_UP)


def rise_plan(job: Job) -> Plan | None:
    """A path follows a trace whose labelled shift makes another region best for some route.

    Most of these shifts are too small to matter to most projects, so projects are drawn until
    one is found that it matters to; after 200 the last one has to do.
    """
    shape, rng = slices("rise")[job.slice], luck(job)
    level = float(np.median(shape[len(shape) // 2 :]))
    for _ in range(200):
        world = draw_world(*matrix(job.matrix), rng, routes=ROUTES[2:], edges=3)
        edge, target = next(iter(world.edges)), favourite(world)
        if target is None or edge == target:
            continue
        if is_flipped(world, replace(world, events=(PathShift(0.0, edge, target, level),))):
            break
    if target is None or edge == target:
        return None
    return traced(job, world, edge, target, len(shape) * SAMPLE / 2)


def is_flipped(before: World, after: World) -> bool:
    """Tell whether a route's best region is no longer right."""
    old, new = (timeline(w).expected(w)[0] for w in (before, after))
    chosen = np.take_along_axis(new, old.argmin(axis=2)[:, :, None], axis=2)[:, :, 0]
    best = new.min(axis=2)
    return bool(np.any(chosen > np.maximum(RIGHT_RATIO * best, best + 0.010)))


def traced(job: Job, world: World, edge: RegionId, target: RegionId, warm_up: float) -> Plan:
    """Lay the job's trace over a path of a world."""
    shape = slices(job.kind)[job.slice]
    duration = len(shape) * SAMPLE
    return Plan(
        replace(world, events=(PathTrace(0.0, edge, target, shape, SAMPLE),)),
        job.seed,
        duration,
        int(duration * 10),
        warm_up,
        SETTINGS,
        event_at=duration / 2 if job.kind == "rise" else None,
    )


PLANS: dict[str, Callable[[Job], Plan | None]] = {
    "steady": steady_plan,
    "bare": bare_plan,
    "trips": trips_plan,
    "single": single_plan,
    "move": lambda job: event_plan(job, backend_moves),
    "death": lambda job: event_plan(job, region_dies),
    "path": lambda job: event_plan(job, path_doubles),
    "deploy": deploy_plan,
    "quiet": quiet_plan,
    "rise": rise_plan,
}


def luck(job: Job) -> np.random.Generator:
    """Return the generator of a job's world."""
    # A new kind goes to the end of `PLANS`: the luck of the others must not change.
    kinds = [*sorted(k for k in PLANS if k != "deploy"), "deploy"]
    return np.random.default_rng([job.seed, kinds.index(job.kind), job.slice + 1])


def matrix(name: str) -> tuple[tuple[RegionId, ...], Floats]:
    """Return one of the measured matrices."""
    return parse_matrix((DATA / f"topo_{name}.csv").read_text(encoding="utf-8"))


def slices(kind: str) -> list[tuple[float, ...]]:
    """Return the trace slices of a kind, each divided by its own median."""
    with (DATA / "ripe_slices.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == kind]
    out = []
    for row in rows:
        values = np.array([float(text) for text in row["rtts_ms"].split()])
        base = values if kind == "quiet" else values[: int(row["change"])]
        out.append(tuple(float(x) for x in values / np.median(base)))
    return out


# --- the page -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One bar on one matrix."""

    bar: str
    matrix: str
    value: float
    detail: str

    @property
    def verdict(self) -> str:
        """Tell whether the measured value is within the bar."""
        if self.bar not in LIMITS:
            return "-"
        is_met = not math.isnan(self.value) and self.value <= LIMITS[self.bar]
        return "met" if is_met else "**missed**"


def rows_of(outcomes: list[Outcome]) -> list[Row]:
    """Measure every bar on every matrix."""
    out: list[Row] = []
    for name in MATRICES:
        by_kind = {
            kind: [o.result for o in outcomes if o.job.matrix == name and o.job.kind == kind]
            for kind in (*KINDS, "bare")
        }
        found = {kind: [r for r in rows if r is not None] for kind, rows in by_kind.items()}
        out += matrix_rows(name, found)
    for kind in ("quiet", "rise"):
        found_results = [o.result for o in outcomes if o.job.kind == kind and o.result is not None]
        if found_results:
            out += trace_rows(kind, found_results)
    return out


def matrix_rows(name: str, found: dict[str, list[Result]]) -> Iterable[Row]:
    """Measure the bars of one matrix."""
    steady = found["steady"]
    if steady:
        ratios = [r.policy("onetrip").steady_ratio for r in steady]
        control = float(np.mean([r.control for r in steady]))
        note = f"runs {min(ratios):.3f} to {max(ratios):.3f}; control group {100 * control:.2f} %"
        if found["bare"]:
            bare = np.mean([r.policy("onetrip").steady_ratio for r in found["bare"]])
            note += f"; without one {bare:.3f}"
        yield Row("mean", name, float(np.mean(ratios)), note)
        yield Row("explored", name, max(r.explored for r in steady), "")
        yield Row("edge", name, max(r.worst_edge for r in steady), "")
        late = [row.late_moves for r in steady for row in r.routes]
        total = len(late)
        wrong = [row for r in steady for row in r.routes if not row.is_right]
        note = f"of {total}; they lose {1e3 * median([row.loss for row in wrong]):.0f} ms (median)"
        yield Row("right", name, float(len(wrong)), note if wrong else f"of {total}")
        yield Row("jitter", name, float(sum(late)), f"{total} placements, {STEADY - WARM_UP:g} s")
    if found["trips"]:
        errors = trip_errors(row for r in found["trips"] for row in r.routes)
        within = sum(e <= LIMITS["trips"] for e in errors)
        note = f"median {median(errors):.3f}; within 0.5: {within} of {len(errors)}"
        yield Row("trips", name, max(errors), note)
    if found["single"]:
        firsts = first_rights([row for r in found["single"] for row in r.routes])
        within = sum(f <= LIMITS["first"] for f in firsts)
        note = f"median {median(firsts):.0f}; within 50: {within} of {len(firsts)}"
        yield Row("first", name, max(firsts), note)
    for kind in ("move", "death", "path", "deploy"):
        if found[kind]:
            yield replaced_row(kind, name, found[kind])


def replaced_row(kind: str, name: str, results: list[Result]) -> Row:
    """Measure the time to be right again after an event."""
    rows = [row for r in results for row in r.routes if not math.isnan(row.replaced)]
    hit = [row for row in rows if row.replaced > 0]
    within = sum(row.replaced <= 60 for row in hit)
    note = f"within 60 s: {within} of {len(hit)} that it made wrong"
    if hit:
        note = f"median {median([row.replaced for row in hit]):.0f} s; {note}"
    late = [row.loss for row in hit if math.isinf(row.replaced) and math.isfinite(row.loss)]
    if late:
        note += f"; the others lose {1e3 * median(late):.0f} ms (median)"
    return Row(kind, name, max((row.replaced for row in rows), default=math.nan), note)


def trace_rows(kind: str, results: list[Result]) -> Iterable[Row]:
    """Measure the bars on traces."""
    late = sum(row.late_moves for r in results for row in r.routes)
    if kind == "quiet":
        yield Row("jitter", "RIPE, no shift", float(late), f"{len(results)} runs of 3000 s")
        return
    yield replaced_row("path", "RIPE, labelled shift", results)
    ratios = [r.policy("onetrip").steady_ratio for r in results]
    note = f"runs {min(ratios):.3f} to {max(ratios):.3f}, after the shift"
    yield Row("mean", "RIPE, labelled shift", float(np.mean(ratios)), note)
    worst = max(r.worst_edge for r in results)
    yield Row("edge", "RIPE, labelled shift", worst, f"{late} moves in {len(results)} runs")


def render(outcomes: list[Outcome], seeds: int) -> str:
    """Return the page."""
    rows = rows_of(outcomes)
    lines = [HEAD.format(seeds=seeds)]
    for bar, title in TITLES.items():
        mine = [row for row in rows if row.bar == bar]
        if not mine:
            continue
        limit = f"bar: {number(bar, LIMITS[bar])}" if bar in LIMITS else "no bar of its own"
        lines += ["", f"## {title[0].upper()}{title[1:]} ({limit})", ""]
        lines += ["| matrix | measured | bar | detail |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row.matrix} | {number(bar, row.value)} | {row.verdict} | {row.detail} |"
            for row in mine
        ]
        if bar in NOTES:
            lines += ["", NOTES[bar]]
    return "\n".join(lines) + "\n"


def number(bar: str, value: float) -> str:
    """Return a measured value or a limit as text."""
    if math.isinf(value):
        return "never"
    if bar == "explored":
        return f"{100 * value:.2f} %"
    return f"{value:.3f}" if bar in ("mean", "edge", "trips") else f"{value:.0f}"


HEAD = """# Placement bars

Measured by `make bars` with {seeds} seeds a matrix; every run is seeded and repeats exactly. What
is simulated, and when a placement counts as right, is in [simulate.md](simulate.md). Each seed
draws where two databases and the clients of an ordinary project are: seven routes of 0 to 11 round
trips, one of them a write, one of them using both databases. No constant of the product was chosen
by these numbers for one matrix. Misses are explained below each table."""

NOTES: dict[str, str] = {
    "mean": """Most of what is above the oracle is the price of the control group, as the runs
without one show: a route that is ten times faster where it was placed pays 9 % of its mean latency
for 1 % of requests left behind. The share falls to a tenth once the saving is proven. The rest are
savings below the least gain (10 ms a request), which weigh where the oracle's own mean is small.
The labelled shifts of RIPE are mostly worth little more than that.""",
    "trips": """One database, and three edges with traffic. With two databases whose RTTs rise and
fall together over the regions that have traffic, the sum is learned and the split is not; traffic
cannot tell it, Server-Timing or the relay can.""",
    "first": """The edge is not the right place in these worlds. Eight requests measure it, the
others wait for up to four explored ones.""",
    "jitter": """Moves after the warm-up that are not a route's first one. A trace is replayed one
sample a probe, 48 times as fast as it was taken, with its own noise and spikes.""",
    "move": """The database gets a new home under the same name, so RTTs from every region jump at
once. A row that says *never* holds routes between two regions of nearly equal latency, such as 735
and 750 ms: the rules move only when the lower bound of the saving is above the least gain (10 ms),
and the bound takes every RTT to be uncertain by 0.5 %, each trip of it.""",
    "death": """The region that was best for most routes; its database lives on. Requests fail
over at once, at the price of one connect timeout a second and edge until three probes in a row have
failed.""",
    "path": """Matrices: the path from one edge to its favourite region becomes twice as long. RIPE:
the shift of a labelled trace, in a project drawn so that it matters to at least one route. Most
such shifts are worth 10 to 30 ms a request, about what the bound of the saving is wide, so many
routes stay where they are, see above.""",
    "deploy": """A route stops asking its database in a loop, or asks four times as often. The shift
is noticed where the route runs; 40 s go by to be sure that no path has moved; then every edge
measures its default anew. A shift of less than 3 ms or 8 % where the route runs (three round trips
of 0.5 ms each) is only seen by the control group, which takes minutes, and on a rare route longer
than these runs of ten; so is the pause of a route that came back because the new code gains nothing
where it was, though it would elsewhere.""",
    "right": """Mostly routes with 10 to 20 ms to gain, which is less than the least gain plus the
width of the bound.""",
}


if __name__ == "__main__":
    main()
