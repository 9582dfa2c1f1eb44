"""Formats the result of an export as text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytrain.export.placing import Placed


def exported(placed: "Placed") -> str:
    """Says what was written, found as it should be, removed and left alone, and where."""
    if not placed.written and not placed.removed:
        lines = [f"{placed.uri}: complete already; all {len(placed.kept)} files have the right sha256"]
    else:
        lines = [f"{placed.uri}: {len(placed.written)} files written and verified"]
        lines += [f"{len(placed.kept)} files were there already, with the right sha256"] if placed.kept else []
        lines += [f"removed of an earlier export: {', '.join(placed.removed)}"] if placed.removed else []
    lines += [f"{placed.others} other files there were left alone"] if placed.others else []
    return "\n".join([*lines, *placed.notes])
