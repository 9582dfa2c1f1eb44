"""What a benchmark found: printed, and kept where it was asked to be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def emit(found: Mapping[str, Any], out: Path | None) -> None:
    """`found` is `{"machine": ..., "ratios": ..., "figures": ...}`."""
    text = json.dumps(found, indent=2)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
