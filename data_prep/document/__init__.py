"""The part of the FineTuneJob document that preparation reads, and the loader that names line and column."""

from data_prep.document.loader import DocumentError, from_mapping, load_document
from data_prep.document.models import (
    Columns,
    Mixture,
    Source,
    SplitFractions,
    Storage,
    Task,
    TaskType,
)

__all__ = [
    "Columns",
    "DocumentError",
    "Mixture",
    "Source",
    "SplitFractions",
    "Storage",
    "Task",
    "TaskType",
    "from_mapping",
    "load_document",
]
