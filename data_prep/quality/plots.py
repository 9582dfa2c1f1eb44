"""Plots prepared data: lengths of rows, labels, and the share of each task."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.quality.statistics import SplitSummary, lengths
from data_prep.shards.manifest import ShardSet
from data_prep.shards.parts import PartCache
from raytrain_core.storage import Store

_SOURCE, _TARGET, _EDGE, _QUIET = "#3b6ea5", "#c8702a", "#444444", "#b8c0c8"
_COLUMNS = 3
_BINS = 40
_SHOWN_LABELS = 8


def write(
    shard_set: ShardSet, summaries: Sequence[SplitSummary], store: Store, cache: PartCache, folder: Path
) -> list[Path]:
    """Writes lengths.png and, if there is something to show, mixture.png and labels.png.

    Returns the files.
    """
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, Callable[[], Any] | None]] = [
        ("lengths.png", lambda: _lengths(shard_set, summaries, store, cache)),
        ("mixture.png", (lambda: _mixture(shard_set)) if shard_set.rates else None),
        ("labels.png", (lambda: _labels(found)) if (found := _labelled(summaries)) else None),
    ]
    style: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _EDGE}
    files = []
    with rc_context(style):
        for name, draw in drawn:
            if draw is not None:
                draw().savefig(folder / name, dpi=150, bbox_inches="tight", facecolor="white")
                files.append(folder / name)
    return files


def _first_splits(summaries: Sequence[SplitSummary]) -> list[SplitSummary]:
    """The most informative split of each task: train or, for a probe, its first one."""
    return list({summary.task: summary for summary in reversed(summaries)}.values())[::-1]


def _grid(count: int, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.4 * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def _lengths(shard_set: ShardSet, summaries: Sequence[SplitSummary], store: Store, cache: PartCache) -> Any:
    """A histogram of each task's tokens, source above and target below the axis."""
    shown = _first_splits(summaries)
    figure, axes = _grid(len(shown), 2.1)
    for axis, summary in zip(axes, shown, strict=True):
        sides = lengths(shard_set, summary.task, _split(summary), store, cache)
        longest = max(int(side.max()) for side in sides)
        bins = np.geomspace(1, longest + 1, _BINS) if longest > _BINS else np.arange(longest + 2) + 0.5
        for side, color, sign, cut in zip(
            sides, (_SOURCE, _TARGET), (1, -1), (summary.source.cut, summary.target.cut), strict=True
        ):
            counts, edges = np.histogram(side, bins)
            axis.bar(edges[:-1], sign * counts / len(side), np.diff(edges), align="edge", color=color)
            name, half = ("prompt", summary.source.p50) if sign > 0 else ("target", summary.target.p50)
            text = f"{name}: median {half:,}" + (f", {cut:.1%} truncated" if cut else "")
            axis.text(
                0.02,
                0.97 if sign > 0 else 0.03,
                text,
                transform=axis.transAxes,
                color=color,
                va="top" if sign > 0 else "bottom",
            )
        if longest > _BINS:
            axis.set_xscale("log")
            ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if tick <= longest]
            axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axis.minorticks_off()
        low, high = axis.get_ylim()
        axis.set_ylim(low * 1.35, high * 1.35)
        axis.axhline(0, color=_EDGE, linewidth=0.6)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_title(f"{summary.task}, {summary.rows:,} {summary.split} rows", loc="left", fontsize=9)
    figure.supxlabel("tokens of a row after truncation", fontsize=8)
    return figure


def _mixture(shard_set: ShardSet) -> Any:
    """Each trained task's share of the rows, and of the examples that training sees."""
    from matplotlib.figure import Figure

    names = sorted(shard_set.rates, key=lambda name: shard_set.rates[name])
    rows = {name: shard_set.split(name, "train").examples for name in names}
    total, place = sum(rows.values()), np.arange(len(names))
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(names)), layout="constrained")
    axis = figure.subplots()
    axis.barh(place + 0.2, [shard_set.rates[name] for name in names], 0.36, color=_SOURCE, label="of the training")
    axis.barh(place - 0.2, [rows[name] / total for name in names], 0.36, color=_QUIET, label="of the rows")
    for at, name in enumerate(names):
        axis.text(shard_set.rates[name], at + 0.2, f" {shard_set.rates[name]:.1%}", va="center", color=_SOURCE)
        axis.text(rows[name] / total, at - 0.2, f" {rows[name]:,} rows", va="center", color=_EDGE)
    axis.set_yticks(place, names)
    axis.tick_params(left=False)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.margins(x=0.12)
    handles, texts = axis.get_legend_handles_labels()
    axis.legend(handles, texts, loc="lower right", frameon=False)
    axis.set_title("share of each task", loc="left", fontsize=9)
    return figure


def _labelled(summaries: Sequence[SplitSummary]) -> list[SplitSummary]:
    return [summary for summary in _first_splits(summaries) if summary.labels]


def _labels(shown: Sequence[SplitSummary]) -> Any:
    """How often each label is the target, for tasks with few labels."""
    figure, axes = _grid(len(shown), 0.5 + 0.2 * min(_SHOWN_LABELS, max(len(s.labels or {}) for s in shown)))
    for axis, summary in zip(axes, shown, strict=True):
        most = list((summary.labels or {}).items())[:_SHOWN_LABELS][::-1]
        names = [name if len(name) <= 18 else f"{name[:17]}…" for name, _ in most]
        shares = [count / summary.rows for _, count in most]
        axis.barh(np.arange(len(most)), shares, 0.7, color=_SOURCE)
        for at, share in enumerate(shares):
            axis.text(share, at, f" {share:.1%}", va="center", color=_EDGE)
        axis.set_yticks(np.arange(len(most)), names)
        axis.tick_params(left=False)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.margins(x=0.2)
        of = "rows with such an entity" if summary.type == "ner" else "targets"
        axis.set_title(f"{summary.task}: {of}", loc="left", fontsize=9)
    return figure


def _split(summary: SplitSummary) -> Any:
    return summary.split
