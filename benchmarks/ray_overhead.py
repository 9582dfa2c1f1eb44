"""What Ray Train adds to a step: a tiny training in a plain process and on Ray Train."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import workload

if TYPE_CHECKING:
    from raytrain.training.step import StepResult

ROW = (512, 128)


def step_seconds(
    count: int,
    after_step: Callable[[StepResult], None] = lambda result: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Returns the seconds of each step of a tiny model, without the first tenth."""
    import torch

    from raytrain.config.training import TrainingSpec
    from raytrain.training.threads import cores
    from raytrain.training.trainer import Trainer

    torch.set_num_threads(cores())
    _, row = workload.rows_of(workload.examples(400), ROW)
    training = TrainingSpec(steps=count, batch_tokens=sum(ROW), dropout=0.0)
    trainer = Trainer(workload.model("tiny"), training, list(workload.FOUR))
    seconds: list[float] = []
    for step, rows in trainer.timer.waiting("data", ((step, [row(step)]) for step in range(count))):
        result = trainer.step(step, rows, stop=stop_requested())
        if result.record is not None:
            seconds.append(result.record.seconds)
        after_step(result)
    return seconds[count // 10 :]


def measure(steps: int) -> dict[str, float]:
    """Returns the median milliseconds of a step in both, and the difference."""
    plain = 1e3 * statistics.median(step_seconds(steps))
    on_ray = 1e3 * statistics.median(_on_ray(steps))
    return {"step_ms_plain": plain, "step_ms_on_ray": on_ray, "ray_train_overhead_ms_per_step": on_ray - plain}


def _on_ray(steps: int) -> list[float]:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    import ray
    import ray.train.torch

    from raytrain.training.ray.channel import DriverChannel
    from raytrain.training.threads import worker_environment

    api: Any = ray.train
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        channel = DriverChannel.start()

        def work() -> list[float]:
            from raytrain.training.ray.metrics import Gauges
            from raytrain.training.ray.reporting import ProgressEmitter

            progress, gauges = ProgressEmitter(channel, steps), Gauges("bench", "bench")

            def after_step(result: StepResult) -> None:
                if result.record is not None:
                    gauges.show_step(result.record)
                    progress.after_step(result.record, result.position)

            signal = channel.request_signal()
            return step_seconds(steps, after_step, lambda: signal.latest().stop)

        with tempfile.TemporaryDirectory() as folder:
            fit = api.torch.TorchTrainer(
                work,
                scaling_config=api.ScalingConfig(num_workers=1),
                run_config=api.RunConfig(
                    name="bench", storage_path=folder, worker_runtime_env={"env_vars": worker_environment()}
                ),
            ).fit()
        seconds: list[float] = fit.return_value
        return seconds
    finally:
        ray.shutdown()
