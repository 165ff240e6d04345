"""The explain text: for each route and edge, what was decided, from which terms, and what it saved.

One block a decision: a sentence with the status, the candidates with every term of their scores
in ms, then what was measured and what is missing. Pure functions of API bodies.
"""

from __future__ import annotations

from collections.abc import Iterable

from onetrip.cli.render import DASH, left_out, ms, percent, plain, table
from onetrip.control.schemas import (
    CandidateRow,
    DecisionBody,
    ExplainBody,
    LatencyRow,
    TermRow,
    TripsRow,
)

LEAST_SHOWN = 0.05
"""Round trips below this print as 0.0, and are left out."""


LACKS = {
    "off": "the toggle; what it would do: onetrip whatif {project}",
    "analyzing": "more requests from {edge}",
    "insufficient traffic": "more requests from {edge}",
    "not helping": "nothing to do: it is tried again after a pause",
    "unreachable": "a ready instance in a permitted region",
}
"""What a route that is not placed waits for, where the decision does not say it itself."""


def explain(body: ExplainBody, latencies: Iterable[LatencyRow]) -> str:
    """Return one block for each decision, a blank line between them."""
    rows = list(latencies)
    if not body.decisions:
        return f"{plain(body.project)}: no route matches; none has been seen or declared yet"
    blocks = (decision(d, [row for row in rows if _is_of(row, d)]) for d in body.decisions)
    promise = f"{plain(body.project)}: {plain(body.consistency)}\n\n" if body.consistency else ""
    return promise + "\n\n".join(blocks) + left_out(len(body.decisions), body.total)


def decision(body: DecisionBody, latencies: list[LatencyRow]) -> str:
    """Return the block of one decision; `latencies` are its own, by arm."""
    lines = [f"{_title(body)}: {sentence(body)}"]
    if body.candidates:
        lines += _candidates(body)
    lines += [f"  {line}" for line in _facts(body, latencies)]
    return "\n".join(lines)


def sentence(body: DecisionBody) -> str:
    """Return the status of a decision as the end of a sentence about its route."""
    here = plain(body.regions[0]) if body.regions else "nowhere"
    gain = _predicted(body)
    match body.status:
        case "placed":
            return f"placed in {here}" + gain
        case "pinned":
            return f"pinned to {here} by its hint" + gain
        case "off":
            return f"off, runs in {here}"
        case "at edge":
            # The default is not the edge where the edge itself cannot serve.
            is_edge = not body.regions or body.regions[0] == body.edge
            return f"stays at {'the edge' if is_edge else 'its default'}, in {here}"
        case "analyzing":
            return f"analyzing, runs in {here} meanwhile"
        case "insufficient traffic":
            return f"insufficient traffic, runs in {here}"
        case "not helping":
            return f"not helping, went back to {here}"
        case "unreachable":
            return "unreachable, no permitted region has a ready instance"
        case other:
            return f"{plain(other)}, runs in {here}"


def _title(body: DecisionBody) -> str:
    route = f"{body.project}/{body.environment}  {body.method} {body.route}  from {body.edge}"
    return plain(route)


def _predicted(body: DecisionBody) -> str:
    scores = {c.region: c.score_ms for c in body.candidates}
    before = scores.get(body.default) if body.default else None
    after = scores.get(body.regions[0]) if body.regions else None
    if before is None or after is None or not before:
        return ""
    gain, verb = before - after, "saves" if before >= after else "costs"
    return f" - {verb} {ms(abs(gain), True)} ({100 * abs(gain) / before:.0f} %), predicted"


def _candidates(body: DecisionBody) -> list[str]:
    names = [term.backend for term in body.candidates[0].backends]
    heads = (
        "",
        "region",
        ">edge RTT",
        ">compute",
        *(f">{plain(name)}: trips x RTT" for name in names),
        ">total",
        "",
    )
    return table(heads, (_candidate(row) for row in body.candidates)).split("\n")


def _candidate(row: CandidateRow) -> tuple[str, ...]:
    terms = (
        f"{_count(term.round_trips)} x {ms(term.rtt_ms):>6} = {ms(term.product_ms):>8}"
        f"{_replica(term)}"
        for term in row.backends
    )
    verdict = "default" if row.is_default else "" if row.is_chosen else row.verdict
    return (
        "*" if row.is_chosen else " ",
        row.region,
        ms(row.edge_rtt_ms),
        ms(row.compute_ms),
        *terms,
        ms(row.score_ms, True),
        verdict,
    )


def _replica(term: TermRow) -> str:
    """Name the replica that the RTT is to; the primary goes without saying."""
    return f" ({plain(term.endpoint)})" if term.endpoint not in ("", term.backend) else ""


def _facts(body: DecisionBody, latencies: list[LatencyRow]) -> list[str]:
    lines = []
    if body.reason:
        lines.append(f"rule: {plain(body.reason)}")
    lines.append(f"trips: {_trips(body)}")
    if body.capacity is not None and len(body.regions) > 1:
        lines.append(
            f"load: {body.capacity} requests at once an instance; "
            f"what is more goes to {plain(body.regions[1])}"
        )
    if missing := _missing(body):
        lines.append(f"missing: {missing}")
    if body.explore_region is not None and body.explore > 0:
        region = plain(body.explore_region)
        lines.append(f"exploring: {percent(body.explore)} of reads go to {region} to learn")
    lines += _measured(body, latencies)
    return lines


def _missing(body: DecisionBody) -> str:
    if body.missing:
        return plain(body.missing)
    return plain(LACKS.get(body.status, "").format(project=body.project, edge=body.edge))


def _trips(body: DecisionBody) -> str:
    trips = body.trips
    used = (row for row in trips.backends if (row.round_trips or 0.0) >= LEAST_SHOWN)
    counts = ", ".join(_interval(row) for row in used) or "none to any backend"
    if trips.source == "none":
        return f"not known yet, {trips.requests} requests seen"
    if trips.source == "declared":
        return f"{counts}, declared"
    text = f"{counts}, learned from {plain(trips.source)}"
    if not trips.requests:
        return text
    regions = "1 region" if trips.regions == 1 else f"{trips.regions} regions"
    return f"{text}: {trips.requests} requests in {regions}"


def _interval(row: TripsRow) -> str:
    text = f"{_count(row.round_trips)} to {plain(row.backend)}"
    if row.low is None or row.high is None or row.high - row.low < LEAST_SHOWN:
        return text
    return f"{text} ({row.low:.1f}..{row.high:.1f})"


def _measured(body: DecisionBody, latencies: list[LatencyRow]) -> list[str]:
    saving, means = body.saving, {row.arm: row.mean_ms for row in latencies}
    if saving is None:
        return []
    control = f"control {ms(means.get('control'), True)} ({saving.control_requests} requests)"
    placed = f"placed {ms(means.get('placed'), True)} ({saving.placed_requests})"
    if saving.mean_ms is None:
        return [f"measured: {control} vs {placed}: too little traffic to compare"]
    text = f"measured: {control} vs {placed}: saving {ms(saving.mean_ms, True)}"
    if saving.low_ms is None or saving.high_ms is None:
        return [f"{text}, too little traffic for an interval"]
    return [
        f"{text}, {100 * saving.confidence:.3g} % interval "
        f"{ms(saving.low_ms)}..{ms(saving.high_ms, True)}"
    ]


def _count(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def _is_of(row: LatencyRow, body: DecisionBody) -> bool:
    return (row.project, row.environment, row.route, row.method, row.edge) == (
        body.project,
        body.environment,
        body.route,
        body.method,
        body.edge,
    )
