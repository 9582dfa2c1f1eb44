"""Pydantic models of sources, tasks and mixture: the one definition of their fields.

Field names are camelCase in the job file and snake_case in Python. `raytrain explain`, the JSON
Schema and the reference documentation are generated from the descriptions.
"""

from data_prep.config.mixture import Mixture, MixtureGroup, MixtureStrategy, Replay
from data_prep.config.source import SPLITS, CsvOptions, Format, Source, Split
from data_prep.config.task import (
    Columns,
    FewShot,
    Marks,
    Mask,
    Name,
    SplitFractions,
    TagScheme,
    Task,
    TaskType,
)

__all__ = [
    "SPLITS",
    "Columns",
    "CsvOptions",
    "FewShot",
    "Format",
    "Marks",
    "Mask",
    "Mixture",
    "MixtureGroup",
    "MixtureStrategy",
    "Name",
    "Replay",
    "Source",
    "Split",
    "SplitFractions",
    "TagScheme",
    "Task",
    "TaskType",
]
