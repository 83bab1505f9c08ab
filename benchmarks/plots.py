"""Growth and latency as SVG; equal results give equal bytes."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.session import Grown, Results

_WIDTH, _HEIGHT = 10.0, 6.0
_LABELS = {
    "batch_size": "batch_size",
    "in_flight": "in_flight",
    "processes": "worker processes",
    "partitions": "daily partitions",
    "agents": "agents",
    "backlog": "events in the backlog",
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write ``growth.svg`` and ``latency.svg``, as far as they were measured."""
    mpl.rcParams["svg.hashsalt"] = "penstock"
    mpl.rcParams["svg.fonttype"] = "none"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if results.growth:
        written.append(_save(_growth(results.growth), folder / "growth.svg"))
    if results.latency:
        written.append(_save(_latency(results), folder / "latency.svg"))
    return written


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    return path


def _growth(points: list[Grown]) -> Any:
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    for axes, (what, label) in zip(
        figure.subplots(2, 3, sharey=True).flat, _LABELS.items(), strict=True
    ):
        found = sorted(
            (p.value, p.summary.median.events_per_second)
            for p in points
            if p.what == what and p.summary.median
        )
        axes.plot([str(f"{value:,}") for value, _ in found], [rate for _, rate in found], "o-")
        axes.set(xlabel=label)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", alpha=0.3)
    axes.set_ylim(bottom=0)  # of all plots, which share their axis, once all are drawn
    figure.supylabel("heartbeats per second")
    return figure


def _latency(results: Results) -> Any:
    figure = Figure(figsize=(_WIDTH / 2, _HEIGHT / 2), layout="constrained")
    axes = figure.subplots()
    rates = [f"{found.rate:,}" for found in results.latency]
    for name, label in (("p99_ms", "p99"), ("p50_ms", "p50")):
        axes.plot(rates, [getattr(found, name) for found in results.latency], "o-", label=label)
    axes.set(xlabel="events per second", ylabel="hand-over to commit, ms", ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure
