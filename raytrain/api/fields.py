"""The parts of a job as classes with keyword arguments, for editors that complete them.

They are the models of the job file. Only their errors differ: a wrong value is told as in a job
file, in a sentence that names the field.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

import data_prep.config
import raytrain.config.evaluation
import raytrain.config.resources
import raytrain.config.training
import raytrain_core.storage
from raytrain_core.config.base import SpecModel
from raytrain_core.config.loader import from_mapping


class _InSentences:
    """A constructor that raises ConfigError in place of pydantic's ValidationError."""

    _fields_of: ClassVar[type[SpecModel]]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Gives a notebook's completion the names of Python in place of the file's."""
        super().__pydantic_init_subclass__(**options)  # type: ignore[misc]  # SpecModel's
        fields: dict[str, Any] = cls.model_fields  # type: ignore[attr-defined]
        names = {field.alias: name for name, field in fields.items()}
        given = inspect.signature(cls)
        parameters = [part.replace(name=names.get(part.name, part.name)) for part in given.parameters.values()]
        cls.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]

    if not TYPE_CHECKING:  # type checkers and editors see the fields of the model instead

        def __init__(self, /, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError:  # what a job file can hold is right, such as a Path as its text
                found = from_mapping(values, self._fields_of, name=type(self).__name__)
                super().__init__(**{name: getattr(found, name) for name in found.model_fields_set})


class Task(_InSentences, data_prep.config.Task):
    """A task, or a probe: `Task(name=..., type=..., source=Source(uri=...))`."""

    _fields_of: ClassVar[type[SpecModel]] = data_prep.config.Task


class Source(_InSentences, data_prep.config.Source):
    """Where a task's rows come from."""

    _fields_of: ClassVar[type[SpecModel]] = data_prep.config.Source


class Columns(_InSentences, data_prep.config.Columns):
    """Which columns of a row are used, and for what."""

    _fields_of: ClassVar[type[SpecModel]] = data_prep.config.Columns


class SplitFractions(_InSentences, data_prep.config.SplitFractions):
    """Shares of rows for validation and test."""

    _fields_of: ClassVar[type[SpecModel]] = data_prep.config.SplitFractions


class Mixture(_InSentences, data_prep.config.Mixture):
    """Sampling rates of the tasks."""

    _fields_of: ClassVar[type[SpecModel]] = data_prep.config.Mixture


class Training(_InSentences, raytrain.config.training.TrainingSpec):
    """How the model is trained."""

    _fields_of: ClassVar[type[SpecModel]] = raytrain.config.training.TrainingSpec


class Lora(_InSentences, raytrain.config.training.Lora):
    """Low-rank adapters, for `Training(method="lora")`."""

    _fields_of: ClassVar[type[SpecModel]] = raytrain.config.training.Lora


class Evaluation(_InSentences, raytrain.config.evaluation.EvaluationSpec):
    """When and how models are scored."""

    _fields_of: ClassVar[type[SpecModel]] = raytrain.config.evaluation.EvaluationSpec


class Resources(_InSentences, raytrain.config.resources.Resources):
    """Number of workers and actors, and the resources of each."""

    _fields_of: ClassVar[type[SpecModel]] = raytrain.config.resources.Resources


class Storage(_InSentences, raytrain_core.storage.StorageLocation):
    """Where shards and runs are stored."""

    _fields_of: ClassVar[type[SpecModel]] = raytrain_core.storage.StorageLocation
