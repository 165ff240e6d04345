"""Figures of a trial, as PNG or SVG bytes. matplotlib is optional: extra `plot`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from onetrip.errors import ConfigError
from onetrip.simulate.trial import ONETRIP, Trial

FORMATS = ("png", "svg")

_STYLES = {
    ONETRIP: ("#0b6e4f", 2.2),
    "oracle": ("#111111", 1.6),
    "edge execution": ("#c1292e", 1.4),
}
_OTHERS = ("#3d5a80", "#98722c", "#7b5ea7", "#6c757d")
_SLICES = 60
_QUANTILES = np.linspace(0.5, 99.9, 200)


def figures(trial: Trial) -> dict[str, bytes]:
    """Return the figures of a trial by file name.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    out: dict[str, bytes] = {}
    for name, drawing in (("distribution", _draw_distribution), ("over_time", _draw_over_time)):
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        drawing(axes, trial)
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
        for kind in FORMATS:
            out[f"{name}.{kind}"] = _saved(figure, kind)
        pyplot.close(figure)
    return out


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install 'onetrip[plot]'") from error
    matplotlib.use("Agg")
    # Fixed, so that the same trial gives the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "onetrip"
    from matplotlib import pyplot

    return pyplot


def _saved(figure: Any, kind: str) -> bytes:
    out = io.BytesIO()
    extra = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(out, format=kind, dpi=130, metadata=extra)
    return out.getvalue()


def _style(names: list[str]) -> dict[str, tuple[str, float]]:
    others = iter(_OTHERS * len(names))
    return {name: _STYLES.get(name) or (next(others), 1.2) for name in names}


def _draw_distribution(axes: Any, trial: Trial) -> None:
    for name, (colour, width) in _style(list(trial.latencies)).items():
        times = trial.latencies[name]
        values = np.percentile(times[~np.isnan(times)], _QUANTILES) * 1e3
        axes.plot(values, _QUANTILES / 100, color=colour, linewidth=width, label=name)
    axes.set(xscale="log", xlabel="latency, ms", ylabel="share of requests", ylim=(0, 1))
    axes.set_title("Latency of the same requests under each policy", loc="left")


def _draw_over_time(axes: Any, trial: Trial) -> None:
    marks = np.linspace(0.0, trial.plan.duration, _SLICES + 1)
    place = np.clip(np.searchsorted(marks, trial.requests.at, side="right") - 1, 0, _SLICES - 1)
    for name, (colour, width) in _style(list(trial.latencies)).items():
        times = trial.latencies[name]
        known = ~np.isnan(times)
        counts = np.bincount(place[known], minlength=_SLICES)
        sums = np.bincount(place[known], weights=times[known], minlength=_SLICES)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / counts * 1e3
        axes.plot(marks[:-1], means, color=colour, linewidth=width, label=name)
    for start in trial.line.starts[1:_SLICES]:
        axes.axvline(start, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set(yscale="log", xlabel="time, s", ylabel="mean latency, ms")
    axes.set_title("Mean latency over time; grey: the truth changed", loc="left")
