"""The capacity of a packed row, if the job does not set it; without numpy, for `raytrain check`."""

from raytrain.config.training import PackingShape
from raytrain_core.errors import UsageError

LARGEST_DEFAULT = 8192 + 1792
"""Most tokens of a default row: longer rows gain little, and workers share a step by rows."""
ROWS_A_STEP = 8
"""Default rows are short enough for this many a step, if batchTokens allows it."""


def packing_shape(
    batch_tokens: int, max_input: int, max_target: int, mean_input: float, mean_target: float
) -> PackingShape:
    """Returns the default capacity of a row, for jobs that do not set `training.packing`.

    A row holds the longest example. If that leaves room, it takes an eighth of a step (so that
    workers can share a step by rows) and at most `LARGEST_DEFAULT` tokens, with source and target
    in proportion to their mean lengths. UsageError if `batch_tokens` cannot hold the longest
    example.
    """
    least = max_input + max_target
    if least > batch_tokens:
        raise UsageError(
            f"training.batchTokens is {batch_tokens}, but one example may have {max_input} + {max_target} tokens",
            hint="raise training.batchTokens, or lower training.maxInputTokens or training.maxTargetTokens",
        )
    total = max(least, min(batch_tokens // ROWS_A_STEP, LARGEST_DEFAULT))
    target = round(total * mean_target / (mean_input + mean_target))
    target = min(max(target, max_target), total - max_input)
    return PackingShape(source=total - target, target=target)
