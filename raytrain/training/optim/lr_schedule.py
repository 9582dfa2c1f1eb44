"""The learning rate as a pure function of the step."""

import math

from raytrain.config.training import TrainingSpec


def learning_rate(step: int, training: TrainingSpec) -> float:
    """Returns the learning rate of step number `step`, counted from 0.

    It rises linearly over `warmup_steps` and reaches the peak at the last of them. Then it stays
    there (constant), falls to `final_learning_rate_share` of the peak at the last step (linear,
    cosine), or falls as 1 / sqrt(step) (inverse-square-root).
    """
    peak = training.learning_rate
    if step < training.warmup_steps:
        return peak * (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return peak
    if training.schedule == "inverse-square-root":
        return peak * math.sqrt(max(training.warmup_steps, 1) / (step + 1))
    last = max(training.last_step - 1 - training.warmup_steps, 1)
    passed = min((step - training.warmup_steps) / last, 1.0)
    share = 1.0 - passed if training.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * passed))
    floor = training.final_learning_rate_share
    return peak * (floor + (1.0 - floor) * share)
