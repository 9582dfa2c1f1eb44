"""A training worker as a separate process, in a module that a fresh interpreter can import."""

from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from raytrain.training.checkpoint import Snapshot
from raytrain.training.precision import resolved
from tests.support.tiny_loader import settings, tiny_loader, train, trainer_of

STEPS = 4


def work(rank: int, workers: int, folder: Path, options: dict[str, Any]) -> None:
    """Trains and saves the results to `<folder>/<rank>.pt`.

    `options`: `training` (changes to the settings), `model` (of the tiny model), `trainer` and
    `start`.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers)
    try:
        training = settings(**{"steps": STEPS, "optimizer": "adamw", **options.get("training", {})})
        trainer = trainer_of(training, **options.get("trainer", {}), **options.get("model", {}))
        position = None
        if (start := options.get("start")) is not None:
            snapshot = torch.load(start, weights_only=False)["snapshot"]
            trainer.restore(snapshot.position, snapshot.weights, snapshot.optimizer, snapshot.optimizer_numbers)
            position = snapshot.position
        records, snapshots, _ = train(tiny_loader(), trainer, start=position, worker=rank, workers=workers, every=2)
        last = snapshots[-1] if snapshots else None
        assert last is None or isinstance(last, Snapshot)
        sizes = {name: value.numel() for name, value in trainer.weights.values.items()}
        out: dict[str, Any] = {"snapshot": last, "losses": [(r.loss, r.gradient_norm) for r in records], "sizes": sizes}
        out["weights"] = {name: value.detach().clone() for name, value in trainer.weights.values.items()}
        torch.save(out, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def choose_precision(rank: int, workers: int, folder: str) -> None:
    """Writes what `precision: auto` becomes to `<folder>/<rank>`.

    The last worker's CPU lacks bf16.
    """
    capabilities = {"avx512_bf16": rank < workers - 1}
    vars(torch.cpu)["get_capabilities"] = lambda: capabilities
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers)
    try:
        training, why = resolved(settings(precision="auto"), torch.device("cpu"))
        (Path(folder) / str(rank)).write_text(f"{training.precision}: {why}")
    finally:
        dist.destroy_process_group()
