"""Loads a FineTuneJob from its file, and writes one."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import load_config


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job with its file and the folder that its relative paths are relative to."""

    job: FineTuneJob
    path: Path
    base_folder: Path


def load_job(path: str | Path) -> LoadedJob:
    """Loads and validates a job file; ConfigError lists every problem with line and column."""
    job = load_config(path, FineTuneJob)
    return LoadedJob(job, Path(path), Path(path).resolve().parent)


def to_yaml(written: Mapping[str, Any]) -> str:
    """Returns the text of a job file; fields stay in their order."""
    from ruamel.yaml import YAML

    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(written), text)
    return text.getvalue()
