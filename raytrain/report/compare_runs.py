"""Compares runs on request: reads them, renders the comparison, and writes it into a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytrain_core.errors import StorageError, UsageError

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout
    from raytrain.report.comparison import ComparedRun
    from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class RenderedComparison:
    """A comparison as Markdown and JSON, and the files that were written."""

    markdown: str
    json: str
    files: tuple[Path, ...]


def compare(
    runs: Sequence[tuple[Store, RunLayout]], *, out: Path | None = None, force: bool = False
) -> RenderedComparison:
    """Compares all runs with the first one.

    With `out`, comparison.html, .md and .json are written into that folder. Raises UsageError for
    fewer than two runs, one run named twice, or tasks that cannot be compared (unless `force`), and
    StorageError if the folder cannot be written.
    """
    from raytrain.report.comparison import compare_runs
    from raytrain.report.render_comparison import comparison_html, comparison_markdown

    places = Counter((store.uri, layout.root) for store, layout in runs)
    if twice := [f"{uri}/{root}" for (uri, root), times in places.items() if times > 1]:
        raise UsageError(f"{twice[0]} is named twice", hint="name different runs")
    names = Counter(layout.name for _, layout in runs)
    compared = [read_compared_run(store, layout, _label(store, layout, names)) for store, layout in runs]
    comparison = compare_runs(compared, force=force)
    markdown, json = comparison_markdown(comparison), comparison.model_dump_json(indent=1) + "\n"
    if out is None:
        return RenderedComparison(markdown, json, ())
    html = comparison_html(comparison, compared)
    return RenderedComparison(markdown, json, _write(out, {"html": html, "md": markdown, "json": json}))


def read_compared_run(store: Store, layout: RunLayout, label: str) -> ComparedRun:
    """Reads a run's report data and its answers; raises StorageError if there is no such run."""
    from raytrain.evaluation.results import read_card, read_predictions
    from raytrain.report.comparison import ComparedRun
    from raytrain.report.gather import gather

    data = gather(store, layout)
    answers = {task.name: read_predictions(store, layout, "after", task.name) or [] for task in data.tasks}
    cards = {task.name: card for task in data.tasks if (card := read_card(store, layout, "after", task.name))}
    return ComparedRun(label, data, answers, cards)


def _label(store: Store, layout: RunLayout, names: Mapping[str, int]) -> str:
    """Returns the run's name, with its storage where several runs have that name."""
    return layout.name if names[layout.name] == 1 else f"{layout.name} in {store.uri.rpartition('/')[2]}"


def _write(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            path = folder / f"comparison.{suffix}"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}") from None
    return tuple(paths)
