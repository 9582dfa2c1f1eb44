"""What Ray Train adds to a step: the same tiny training in a plain process and in a worker of Ray Train."""

from __future__ import annotations

import os
import statistics
import tempfile
import types
from typing import Any

from benchmarks import workload

ROW = (512, 128)


def steps_of(count: int, hooks: Any = None) -> list[float]:
    """Seconds of each step of a tiny model, the first ones left out."""
    import torch

    from benchmarks.training import rows_of
    from raytrain.config.job import TrainingSpec
    from raytrain.training.checkpoint import Position
    from raytrain.training.threads import cores
    from raytrain.training.trainer import Callbacks, Trainer, run

    torch.set_num_threads(cores())
    _, row = rows_of(workload.examples(400), ROW)
    training = TrainingSpec(steps=count, batch_tokens=sum(ROW), dropout=0.0)
    seconds: list[float] = []
    more = hooks or {}

    def on_step(record: Any, position: Position) -> None:
        seconds.append(record.seconds)
        if "on_step" in more:
            more["on_step"](record, position)

    run(
        Trainer(workload.model("tiny"), training, list(workload.FOUR)),
        ((step, [row(step)]) for step in range(count)),
        position=Position(),
        rows_per_step=1,
        checkpoint_every=count + 1,
        hooks=Callbacks(on_step=on_step, **{name: hook for name, hook in more.items() if name != "on_step"}),
    )
    return seconds[count // 10 :]


def measure(steps: int) -> dict[str, float]:
    """Median milliseconds of a step in both, and what the difference is."""
    plain = 1e3 * statistics.median(steps_of(steps))
    on_ray = 1e3 * statistics.median(_on_ray(steps))
    return {"step_ms_plain": plain, "step_ms_on_ray": on_ray, "ray_train_overhead_ms_per_step": on_ray - plain}


def _on_ray(steps: int) -> list[float]:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    import ray
    import ray.train.torch

    from raytrain.training.ray import driver as ray_train
    from raytrain.training.threads import worker_environment

    api: Any = ray.train
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        board = ray_train._start_board()

        def work() -> list[float]:
            from raytrain.training.ray.metrics import Gauges

            training = types.SimpleNamespace(last_step=steps)
            job = types.SimpleNamespace(spec=types.SimpleNamespace(training=training))
            progress = ray_train._Progress(types.SimpleNamespace(board=board, job=job))  # type: ignore[arg-type]
            gauges = Gauges("bench", "bench")

            def on_step(record: Any, position: Any) -> None:
                gauges.step(record)
                progress.step(record, position)

            return steps_of(steps, {"on_step": on_step, "stop": ray_train._StopFlag(board)})

        with tempfile.TemporaryDirectory() as folder:
            found = api.torch.TorchTrainer(
                work,
                scaling_config=api.ScalingConfig(num_workers=1),
                run_config=api.RunConfig(
                    name="bench", storage_path=folder, worker_runtime_env={"env_vars": worker_environment()}
                ),
            ).fit()
        seconds: list[float] = found.return_value
        return seconds
    finally:
        ray.shutdown()
