"""`onetrip simulate`: reads files, runs trials over seeds, prints a table, writes CSV and plots."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from onetrip.cli.progress import Progress
from onetrip.cli.render import plain, table
from onetrip.errors import ConfigError
from onetrip.model.topology import RegionId
from onetrip.simulate.engine import Settings
from onetrip.simulate.report import Result, as_csv, measure
from onetrip.simulate.scenario import draw_world, home_matrix, parse_matrix
from onetrip.simulate.schema import (
    ScenarioFile,
    read_scenario,
    scenario_settings,
    scenario_world,
)
from onetrip.simulate.summary import Summary, summarise
from onetrip.simulate.traffic import Requests, replay
from onetrip.simulate.trial import Plan, run_trial
from onetrip.simulate.world import Floats, World

MAX_FILE = 64 * 1024 * 1024
"""Bytes read of a matrix or scenario file at most."""

MAX_LOG = 4 * 1024 * 1024 * 1024
"""Bytes read of an access log at most."""

MAX_SEEDS = 1000

DEFAULT_DURATION, DEFAULT_WARM_UP, DEFAULT_REQUESTS = 600.0, 120.0, 30_000

Matrix = tuple[tuple[RegionId, ...], Floats]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    matrix: Path | None = None
    scenario: Path | None = None
    log: Path | None = None
    out: Path | None = None
    seeds: int = 1
    requests: int | None = None
    duration: float | None = None
    as_json: bool = False


def simulate(options: Options) -> str:
    """Run the trials, write the files that were asked for, and return the text to print.

    Raises:
        ConfigError: an option or a file that cannot be used.
    """
    plans = _plans(options)
    figures: dict[str, bytes] = {}
    if options.out is not None:
        from onetrip.simulate.plots import figures as draw_figures

        figures = draw_figures(run_trial(plans[0]))
    results = run_all(plans, is_quiet=options.as_json)
    if options.out is not None:
        _write(options.out, results, figures)
    if options.as_json:
        return msgspec.json.format(msgspec.json.encode(summarise(results))).decode()
    return text(summarise(results), plans[0])


def run_all(plans: list[Plan], *, is_quiet: bool = False) -> list[Result]:
    """Run every plan, on all processors when there is more than one.

    Args:
        is_quiet: show no progress.
    """
    if len(plans) == 1:
        return [_run(plans[0])]
    workers, results = min(len(plans), os.cpu_count() or 1), list[Result]()
    with (
        ProcessPoolExecutor(workers) as pool,
        Progress("simulating", is_quiet=is_quiet) as progress,
    ):
        for result in pool.map(_run, plans):
            results.append(result)
            progress.show(len(results), len(plans), "runs")
    return results


def text(found: Summary, plan: Plan) -> str:
    """Return the table and the sentences below it."""
    heads = ("policy", ">mean", ">p50", ">p99", ">vs oracle", ">steady")
    rows = (
        (row.policy, *map(_ms, (row.mean, row.p50, row.p99)), *map(_times, _ratios(row)))
        for row in found.policies
    )
    lines = [
        table(heads, rows),
        "",
        f"{found.requests} requests in {found.seeds} run{'s' * (found.seeds > 1)}; steady: "
        f"after {plan.warm_up:g} s; times in ms",
        f"placements right at the end: {found.right} of {found.placements} (edge x route x run)",
        f"first right placement after {_count(found.first_right_p50)} requests (median), "
        f"{_count(found.first_right_worst)} (worst)",
        f"learned round trips off by {_decimal(found.trip_error_p50)} (median), "
        f"{_decimal(found.trip_error_worst)} (worst)",
        f"explored {100 * found.explored:.2f} %, control group {100 * found.control:.2f} %",
        f"moves {found.moves}, of them {found.late_moves} after the warm-up",
        f"worst edge: {found.worst_edge:.3f} x edge execution",
    ]
    if not math.isnan(found.replaced_worst):
        lines.append(f"all right again {_count(found.replaced_worst)} s after the last event")
    return "\n".join(lines)


def _run(plan: Plan) -> Result:
    return measure(run_trial(plan))


def _plans(options: Options) -> list[Plan]:
    if not 1 <= options.seeds <= MAX_SEEDS:
        raise ConfigError(f"seeds of {options.seeds} is not in 1-{MAX_SEEDS}")
    if options.matrix is not None and options.scenario is not None:
        raise ConfigError("give --matrix or --scenario, not both; a scenario names its matrix")
    if options.scenario is not None:
        return _scenario_plans(options, options.scenario)
    if options.log is not None:
        raise ConfigError("--log needs --scenario, which says what its routes really cost")
    regions, rtt = home_matrix() if options.matrix is None else _matrix(options.matrix)
    duration = options.duration or DEFAULT_DURATION
    return [
        Plan(
            world=draw_world(regions, rtt, np.random.default_rng(seed)),
            seed=seed,
            duration=duration,
            count=options.requests or DEFAULT_REQUESTS,
            warm_up=min(DEFAULT_WARM_UP, duration / 2),
        )
        for seed in range(options.seeds)
    ]


def _scenario_plans(options: Options, path: Path) -> list[Plan]:
    file = _scenario(path)
    matrix = home_matrix() if not file.matrix else _matrix(path.parent / file.matrix)
    try:
        world, settings = scenario_world(file, *matrix), scenario_settings(file)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    logged = _logged(options.log, world)
    duration = options.duration or (float(logged.at[-1]) + 1.0 if logged else file.duration)
    count = options.requests or file.requests
    return [
        _plan(world, seed, duration, count, file.warm_up, settings, logged)
        for seed in range(options.seeds)
    ]


def _plan(
    world: World,
    seed: int,
    duration: float,
    count: int,
    warm_up: float,
    settings: Settings,
    logged: Requests | None,
) -> Plan:
    return Plan(world, seed, duration, count, min(warm_up, duration / 2), settings, logged)


def _logged(path: Path | None, world: World) -> Requests | None:
    if path is None:
        return None
    requests, left_out = replay(_lines(path), world)
    if left_out:
        # Not an error: a log holds routes that a scenario does not care about.
        note = f"{left_out} access lines of other routes or edges left out"
        print(f"onetrip: {note}", file=sys.stderr)
    return requests


def _lines(path: Path) -> Iterator[bytes]:
    _check_size(path, MAX_LOG)
    with path.open("rb") as file:
        yield from file


def _matrix(path: Path) -> Matrix:
    text = _read(path)
    try:
        return parse_matrix(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _scenario(path: Path) -> ScenarioFile:
    text = _read(path)
    try:
        data: Any = yaml.safe_load(text)
        return read_scenario(data)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "unreadable"
        raise ConfigError(f"{path}: not YAML: {reason}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not YAML: nested too deeply") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    _check_size(path, MAX_FILE)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not UTF-8 text") from error


def _check_size(path: Path, limit: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if size > limit:
        raise ConfigError(f"{path}: file of {size} bytes exceeds limit of {limit}")


def _write(folder: Path, results: list[Result], figures: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    policies = [row for result in results for row in result.policies]
    routes = [row for result in results for row in result.routes]
    (folder / "policies.csv").write_text(as_csv(policies), encoding="utf-8")
    (folder / "routes.csv").write_text(as_csv(routes), encoding="utf-8")
    for name, data in figures.items():
        (folder / name).write_bytes(data)


def _ratios(row: Any) -> tuple[float, float]:
    return row.ratio, row.steady_ratio


def _ms(value: float) -> str:
    return plain(f"{value * 1e3:.1f}")


def _times(value: float) -> str:
    return f"{value:.3f}"


def _count(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.0f}"


def _decimal(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "unknown" if math.isinf(value) else f"{value:.2f}"
