"""How models and checkpoints are scored (`spec.evaluation`)."""

from typing import Literal

from pydantic import Field

from raytrain_core.config.base import SpecModel


class EvaluationSpec(SpecModel):
    """How models and checkpoints are scored."""

    every: int = Field(
        default=500, ge=1, description="Checkpoints at multiples of this step are scored on validation rows."
    )
    examples_per_task: int = Field(
        default=200, ge=2, description="Number of rows scored per task; the same rows each time."
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum length of a generated answer in tokens; by default training.maxTargetTokens.",
    )
    max_pending_checkpoints: int = Field(
        default=4,
        ge=1,
        description=(
            "Maximum number of checkpoints waiting to be scored; when evaluation is slower than training, the "
            "oldest waiting ones are skipped. The last checkpoint is always scored."
        ),
    )
    batch_size: int = Field(
        default=32, ge=1, description="Number of examples that an actor generates at the same time."
    )
    beams: int = Field(
        default=1, ge=1, le=32, description="Number of beams: 1 is greedy decoding; beam search is slower."
    )
    select: Literal["best", "last"] = Field(
        default="best",
        description=(
            "Which checkpoint becomes the model: the best on validation rows (mean of the tasks' primary "
            "metrics), or the last."
        ),
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Early stopping: training ends when this many scored checkpoints in a row have not improved on the "
            "best one."
        ),
    )
    max_forgetting: float | None = Field(
        default=None,
        ge=0,
        description=(
            "Largest tolerated drop of a probe's primary metric on validation rows, compared with the base model "
            "(0.02 is two points of 100). Checkpoints beyond it are not chosen, unless all are beyond it."
        ),
    )
