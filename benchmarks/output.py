"""Prints the result of a benchmark and writes it to a file on request."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def processor() -> str:
    """Returns the name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def emit(found: Mapping[str, Any], out: Path | None) -> None:
    """Prints `{"machine": ..., "ratios": ..., "figures": ...}` and writes it to `out`, if given."""
    text = json.dumps(found, indent=2)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
