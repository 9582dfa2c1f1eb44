"""Runs compared on request: read, rendered, and where wished written into a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytrain_core.errors import StorageError, UsageError

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout
    from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison rendered, and the files that were written."""

    markdown: str
    json: str
    files: tuple[Path, ...]


def compare(runs: Sequence[tuple[Store, RunLayout]], *, out: Path | None = None) -> Compared:
    """Compare runs; the first is the one that the others are held against.

    With `out` comparison.html, .md and .json are written there. UsageError for fewer than two runs
    or the same one twice, StorageError for a folder that cannot be written.
    """
    from raytrain.report import comparison

    places = Counter((store.uri, layout.root) for store, layout in runs)
    if twice := [f"{uri}/{root}" for (uri, root), times in places.items() if times > 1]:
        raise UsageError(f"{twice[0]} is named twice", hint="Name different runs.")
    names = Counter(layout.name for _, layout in runs)
    sides = [
        comparison.read_side(
            store,
            layout,
            layout.name if names[layout.name] == 1 else f"{layout.name} in {store.uri.rpartition('/')[2]}",
        )
        for store, layout in runs
    ]
    found = comparison.compare_runs(sides)
    markdown, json = comparison.render_markdown(found), found.model_dump_json(indent=1) + "\n"
    written = []
    if out is not None:
        texts = {"html": comparison.render_html(found, sides), "md": markdown, "json": json}
        try:
            out.mkdir(parents=True, exist_ok=True)
            for kind, text in texts.items():
                path = out / f"comparison.{kind}"
                path.write_text(text, encoding="utf-8")
                written.append(path)
        except OSError as error:
            raise StorageError(f"{out} cannot be written: {error.strerror or error}") from None
    return Compared(markdown, json, tuple(written))
