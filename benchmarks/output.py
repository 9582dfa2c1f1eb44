"""Prints the result of a benchmark and writes it to a file on request."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def emit(found: Mapping[str, Any], out: Path | None) -> None:
    """Prints `{"machine": ..., "ratios": ..., "figures": ...}` and writes it to `out`, if given."""
    text = json.dumps(found, indent=2)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
