"""API bodies to plain text: aligned tables that also read well in a log or a pipe.

No colours and no library: the output is the same on a terminal and in a file. Everything shown
passes `plain`, because route names come from strangers' requests and must not steer a terminal.
The explain text has its own module, `cli/explain`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from onetrip.control import schemas
from onetrip.control.processes import DrainBody, EnvoyRow, WorkerRow
from onetrip.control.projects import ProjectsBody
from onetrip.control.replica_rows import ReplicaRow

DASH = "-"
"""Shown for what is not known."""


def plain(text: str) -> str:
    """Return `text` with every character that could steer a terminal replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def ms(value: float | None, unit: bool = False) -> str:
    """Return milliseconds with one digit, or a dash."""
    if value is None:
        return DASH
    return f"{value:.1f} ms" if unit else f"{value:.1f}"


def percent(ratio: float) -> str:
    """Return a ratio as a percentage, three digits at most."""
    return f"{100 * ratio:.3g} %"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an aligned table; a head that starts with `>` makes its column right-aligned."""
    names = [head.lstrip(">") for head in heads]
    lines = [names, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    is_right = [head.startswith(">") for head in heads]
    return "\n".join(_line(line, widths, is_right) for line in lines)


def status(body: schemas.StatusBody) -> str:
    """Return the answer to "is it well?"."""
    routes = ", ".join(f"{count} {name}" for name, count in body.routes.items())
    lines = [
        f"onetrip {plain(body.version)}  node {plain(body.region)}  "
        f"up {duration(body.uptime)}  {plain(body.state)}",
        *(["mode      advise: it measures and takes no traffic"] if body.mode == "advise" else []),
        f"regions   {body.regions_alive} of {body.regions} alive",
        f"projects  {body.projects}",
        f"routes    {plain(routes) or 'none seen yet'}",
        f"saving    {_saving(body.saving_ms)}",
    ]
    lines += [_worker(row) for row in body.workers] + [_envoy(row) for row in body.envoys]
    lines += [_replica(row) for row in body.replicas]
    return "\n".join(lines + [f"problem   {plain(text)}" for text in body.problems])


def _worker(row: WorkerRow) -> str:
    if not row.is_serving:
        return f"worker {row.index}  down, ended {row.ends} times"
    ends = f", ended {row.ends} times before" if row.ends else ""
    return (
        f"worker {row.index}  process {row.pid}, up {duration(row.uptime)}, "
        f"{row.connections} connections{ends}"
    )


def _envoy(row: EnvoyRow) -> str:
    state = "current" if row.is_current else "behind"
    return f"envoy     {plain(row.name)} {plain(row.version)}, up {duration(row.uptime)}, {state}"


def _replica(row: ReplicaRow) -> str:
    lag = "lag unknown" if row.lag_ms is None else f"{row.lag_ms / 1e3:.3g} s behind"
    state = "primary" if row.is_primary else lag if row.is_read else f"{lag}, not read from"
    place = f" in {plain(row.region)}" if row.region else ""
    return f"endpoint  {plain(row.endpoint)}{place}, {state}"


def regions(body: schemas.RegionsBody) -> str:
    """Return the list of regions."""
    return table(
        ("REGION", "TITLE", "NODE", ">HEARD", "INSTANCES READY", "NEAREST TO"),
        (
            (
                *(row.id, row.title, _liveness(row), _age(row)),
                f"{row.instances_ready} of {row.instances}" if row.instances else DASH,
                ", ".join(row.backends) or DASH,
            )
            for row in body.regions
        ),
    )


def rtts(body: schemas.RttsBody) -> str:
    """Return the RTTs as a matrix, ms: a row for each source region."""
    sources = list(dict.fromkeys(row.source for row in body.rtts))
    targets = [("peer", name) for name in sources]
    targets += [
        pair
        for pair in dict.fromkeys((row.kind, row.target) for row in body.rtts)
        if pair not in targets and pair[0] != "instance"
    ]
    cells = {(row.source, row.kind, row.target): _cell(row) for row in body.rtts}
    lines = (
        (source, *(_at(cells, source, kind, name) for kind, name in targets)) for source in sources
    )
    anycast = {("backend", row.target) for row in body.rtts if row.is_anycast}
    names = (f"{plain(pair[1])}{'~' * (pair in anycast)}" for pair in targets)
    notes = ["* stale  ! failing"] * any(r.state in ("stale", "failing") for r in body.rtts)
    notes += ["~ anycast: answered in more than one place"] * bool(anycast)
    matrix = table(("FROM \\ TO, ms", *(f">{name}" for name in names)), lines)
    return "\n".join([matrix, *notes])


def projects(body: ProjectsBody) -> str:
    """Return the list of projects."""
    return table(
        ("PROJECT", "PLACEMENT", "HINT", ">CONTROL", ">EXPLORE", ">PLACED", ">ROUTES", "SAVING"),
        (
            (
                row.name,
                row.placement.mode,
                row.placement.hint or DASH,
                percent(row.placement.control),
                percent(row.placement.explore),
                str(row.routes.get("placed", 0)),
                str(sum(row.routes.values())),
                _saving(row.saving_ms),
            )
            for row in body.projects
        ),
    )


def project(body: schemas.ProjectBody) -> str:
    """Return one project's configuration."""
    policy = body.placement
    lines = [
        f"project     {plain(body.name)}",
        f"placement   {policy.mode}" + (f", pinned to {plain(policy.hint)}" if policy.hint else ""),
        f"control     {percent(policy.control)} of requests stay at the default placement",
        f"explore     {percent(policy.explore)} of reads may be sent elsewhere to learn",
        f"least gain  {ms(policy.least_gain_ms, True)} a request, dwell {policy.dwell:g} s, "
        f"forwarding by {policy.forwarding}",
    ]
    if policy.share < 1:
        lines.insert(2, f"share       {percent(policy.share)} of requests take part")
    for name, ids in (("allow", policy.allow), ("deny", policy.deny)):
        if ids:
            lines.append(f"{name:<11} {plain(', '.join(ids))}")
    return "\n".join([*lines, *(_environment(e) for e in body.environments)])


def latencies(body: schemas.LatenciesBody) -> str:
    """Return the latency table, ms."""
    heads = ("ENVIRONMENT", "METHOD", "ROUTE", "EDGE", "ARM", ">REQUESTS", ">MEAN ms")
    return table(
        (*heads, ">P50", ">P99"),
        (
            (
                f"{row.project}/{row.environment}",
                row.method,
                row.route,
                row.edge,
                row.arm,
                str(row.requests),
                ms(row.mean_ms),
                ms(row.p50_ms),
                ms(row.p99_ms),
            )
            for row in body.latencies
        ),
    ) + left_out(len(body.latencies), body.total)


def events(body: schemas.EventsBody) -> str:
    """Return the latest events, newest first, in UTC."""
    return table(
        ("TIME (UTC)", "EVENT", "SUBJECT", "DETAIL"),
        ((instant(e.at), e.name, e.subject, e.detail) for e in body.events),
    )


def left_out(shown: int, total: int) -> str:
    """Return a line that says how many rows are missing, or nothing."""
    return f"\n{total - shown} more not shown" if total > shown else ""


def instant(at: float) -> str:
    """Return a Unix time as UTC text; years outside the calendar become a dash."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return DASH


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _line(cells: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, is_right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _saving(value: float | None) -> str:
    return "not measured yet" if value is None else f"{value:.1f} ms a request, measured"


def drain(body: DrainBody) -> str:
    """Return what the drain of a region means."""
    if body.is_draining:
        return f"{plain(body.region)} drains: requests run elsewhere while another region can"
    return f"{plain(body.region)} takes requests"


def _liveness(row: schemas.RegionRow) -> str:
    state = "alive" if row.is_alive else "silent"
    state = "this node" if row.is_self else "no node" if row.is_alive is None else state
    return f"{state}, draining" if row.is_draining else state


def _age(row: schemas.RegionRow) -> str:
    if row.is_self or row.is_alive is None:
        return DASH
    return "never" if row.age is None else f"{row.age:.1f} s"


def _cell(row: schemas.RttRow) -> str:
    return ms(row.rtt_ms) + {"stale": "*", "failing": "!"}.get(row.state, "")


def _at(cells: dict[tuple[str, str, str], str], source: str, kind: str, target: str) -> str:
    if kind == "peer" and source == target:
        return "."
    return cells.get((source, kind, target), DASH)


def _environment(body: schemas.EnvironmentBody) -> str:
    rows = [
        f"environment {plain(body.name)}",
        f"  hosts     {plain(', '.join(body.hosts))}  below {plain(body.path_prefix)}",
        f"  deployment {plain(body.deployment) or DASH}",
    ]
    if body.capacity is not None:
        rows.append(f"  capacity  {body.capacity} requests at once an instance, then spill over")
    rows += [f"  instance  {plain(i.region)}  {plain(i.endpoint)}" for i in body.instances]
    rows += [
        f"  binding   {plain(b.name)} -> {plain(b.backend)} "
        f"({' '.join(plain(word) for word in (b.kind, b.endpoint) if word)})"
        for b in body.bindings
    ]
    return "\n".join(rows)
