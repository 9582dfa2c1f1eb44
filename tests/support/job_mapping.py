"""Jobs from Python data, validated like a job file."""

from collections.abc import Mapping
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import from_mapping


def job_from(mapping: Mapping[str, Any]) -> FineTuneJob:
    return from_mapping(mapping, FineTuneJob)
