"""Prints the result of a benchmark and writes it to a file on request."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name, with family and model where there are any.

    The name alone may say little: of "AMD EPYC" only the family tells the generation.
    """
    try:
        pairs = (line.partition(":") for line in path.read_text().split("\n\n")[0].splitlines())
    except OSError:
        return platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    name = facts.get("model name") or platform.machine()
    return f"{name} (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else name


def emit(found: Mapping[str, Any], out: Path | None) -> None:
    """Prints `{"machine": ..., "ratios": ..., "figures": ...}` and writes it to `out`, if given.

    An earlier result of another processor in `out` is kept beside it, as `NAME.PROCESSOR.json`.
    """
    text = json.dumps(found, indent=2)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        _keep_of_another_processor(out, str(found["machine"].get("processor")))
        out.write_text(text + "\n")


def _keep_of_another_processor(out: Path, processor: str) -> None:
    try:
        before = str(json.loads(out.read_text())["machine"].get("processor"))
    except (FileNotFoundError, ValueError, KeyError):
        return
    if before != processor:
        out.rename(beside(out, before))
    beside(out, processor).unlink(missing_ok=True)


def beside(out: Path, processor: str) -> Path:
    """Returns where the result of a processor is kept that is not the latest."""
    return out.with_name(f"{out.stem}.{re.sub(r'[^a-z0-9]+', '-', processor.lower()).strip('-')}.json")
