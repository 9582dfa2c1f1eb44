"""Exports the chosen checkpoint as a plain Hugging Face folder, tokenizer included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain_core.errors import DataError, StorageError
from raytrain_core.storage import CorruptError
from raytrain_core.storage.commit import commit, read_manifest
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from data_prep.shards.manifest import ShardSet
    from raytrain.evaluation.selection import Choice
    from raytrain.generation.requests import ModelRef
    from raytrain.pipeline.context import RunContext
    from raytrain.pipeline.stages import BaseModelFiles


def export_model(context: RunContext, shards: ShardSet, model: BaseModelFiles) -> None:
    """Exports the chosen checkpoint, unless an earlier attempt has done so.

    A damaged checkpoint is skipped in favour of the next best one. Raises DataError if no
    checkpoint is intact, and StorageError if the local disk has no room for the export.
    """
    from safetensors import SafetensorError

    from data_prep.shards.tokenizer_files import load_tokenizer
    from raytrain.generation.requests import GenerationLimits, ModelRef
    from raytrain.model.export import export as write_model

    context.phase("ScoringAfter", "exporting the model")
    if read_manifest(context.store, context.layout.model) is not None:
        return
    limits = GenerationLimits.from_job(context.job)
    base = ModelRef("base", str(model.folder), model.digest, named=model.uri)
    with scratch("export") as folder:
        tokenizer = load_tokenizer(shards, context.store, folder / "tokenizer")
        choice, prefix, tuned = _load_best(context, base, tokenizer_size=tokenizer.size, folder=folder / "checkpoint")
        try:
            files = write_model(
                tuned,
                folder / "tokenizer",
                folder / "model",
                max_new_tokens=limits.max_new_tokens,
                beams=limits.beams,
            )
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"{folder}: the model cannot be written there: {error}", hint="free some disk space"
            ) from None
        body = {
            "kind": "model",
            "step": choice.step,
            "reason": choice.reason,
            "checkpoint": prefix,
            "identity": context.record.identity,
        }
        commit(context.store, context.layout.model, files, body, guard=context.attempt.check)
    context.emit("ModelExported", f"exported step {choice.step} as the model: {choice.reason}", step=choice.step)


def _load_best(context: RunContext, base: ModelRef, *, tokenizer_size: int, folder: Path) -> tuple[Choice, str, Any]:
    """Loads the best checkpoint that is intact; returns the choice, its prefix and the model."""
    from raytrain.evaluation.results import read_primary_scores

    oldest_first = reversed(committed_checkpoints(context.store, context.layout))
    prefixes = {checkpoint.step: checkpoint.prefix for checkpoint in oldest_first}
    primary_scores = read_primary_scores(
        context.store,
        context.layout,
        lambda message: context.emit("ScoresUnusable", f"{message}; its checkpoint is chosen without this score"),
    )
    while prefixes:
        choice = choose_checkpoint(context, primary_scores, sorted(prefixes))
        prefix = prefixes.pop(choice.step)
        try:
            return (
                choice,
                prefix,
                _load(context, prefix, base, step=choice.step, tokenizer_size=tokenizer_size, folder=folder),
            )
        except CorruptError as error:
            message = f"{error.message}; using the next best checkpoint"
            context.emit("CheckpointUnusable", message, step=choice.step)
    raise DataError(f"run {context.layout.name}: none of its checkpoints is intact", hint="start it over with --fresh")


def _load(
    context: RunContext, prefix: str, base: ModelRef, *, step: int, tokenizer_size: int, folder: Path
) -> Any:  # a transformers model: importing its type would import torch
    from raytrain.generation.generator import load_model
    from raytrain.generation.requests import ModelRef

    manifest = read_manifest(context.store, prefix)
    if manifest is None:
        raise CorruptError(f"{context.store.uri}/{prefix}: its manifest is missing")
    return load_model(
        ModelRef("checkpoint", prefix, manifest.file(WEIGHTS_FILE).sha256, step),
        base,
        store=context.store,
        cache_folder=folder,
        tokenizer_size=tokenizer_size,
    )


def choose_checkpoint(
    context: RunContext, primary_scores: Mapping[int, Mapping[str, float]], steps: list[int]
) -> Choice:
    """Chooses one of `steps` by `evaluation.select` and `evaluation.maxForgetting`.

    `primary_scores` maps step, then task, to the primary metric on validation rows, signed so that
    higher is better.
    """
    from raytrain.evaluation.selection import choose

    spec = context.job.spec
    trained = [task.name for task in spec.trained_tasks]
    scored = {task for scores in primary_scores.values() for task in scores}
    return choose(
        primary_scores,
        steps,
        trained,
        select=spec.evaluation.select,
        probes=sorted(scored.difference(trained)),
        max_forgetting=spec.evaluation.max_forgetting,
    )
