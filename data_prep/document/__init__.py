"""The part of the FineTuneJob document that preparation reads, and the loader that names line and column."""

from data_prep.document.models import (
    Columns,
    Mixture,
    Source,
    SplitFractions,
    Storage,
    Task,
    TaskType,
)

__all__ = ["Columns", "Mixture", "Source", "SplitFractions", "Storage", "Task", "TaskType"]
