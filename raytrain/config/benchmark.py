"""Fields of a probe that is a standard benchmark, defined by lm-evaluation-harness."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from data_prep.config import Name
from data_prep.config.task import NAME_PATTERN
from raytrain_core.config.base import SpecModel

When = Literal["before", "checkpoints", "after"]


class Benchmark(SpecModel):
    """A standard benchmark that is scored, never trained on.

    Prompts, answers and metrics are those of lm-evaluation-harness (the extra `benchmarks`).
    """

    benchmark: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][-\w.+]{0,99}$")] = Field(
        description=(
            "Name of a task, group or tag of lm-evaluation-harness, such as arc_easy, hellaswag, boolq, mmlu or bbh; "
            "arc, samsum and dialogsum are defined by raytrain."
        ),
        examples=["mmlu", "arc_easy"],
    )
    name: Name | None = Field(
        default=None,
        description=(
            "Name in scores and reports, unique among tasks and probes; by default that of the benchmark, in lower "
            "case and with dashes."
        ),
    )
    rows: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Where the rows are: a local folder or a prefix in a bucket (s3://, gs://, az://) with "
            "files named after their split (one folder for "
            "each configuration if there are several, as on the hub), or hf://name[:config][@revision]. By default "
            "the data set that the benchmark names on the Hugging Face hub (HF_ENDPOINT names a mirror)."
        ),
        examples=["./benchmarks/arc_easy", "s3://my-bucket/benchmarks/mmlu"],
    )
    examples: int | None = Field(
        default=None,
        ge=2,
        description="Number of rows scored, drawn by `seed`; by default evaluation.examplesPerTask.",
    )
    seed: int = Field(default=17, ge=0, lt=2**31, description="Seed of the draw of rows.")
    few_shot: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Number of solved examples in each prompt; by default what the benchmark's definition says.",
    )
    metric: str | None = Field(
        default=None,
        min_length=1,
        description="Primary metric, such as acc_norm; by default the definition's first.",
    )
    max_input_tokens: int | None = Field(
        default=None,
        ge=16,
        le=8192,
        description=(
            "Maximum length of a prompt; longer ones lose their beginning, and are counted. By default the model's "
            "own (n_positions of its config.json, else its tokenizer's model_max_length, else 2048), as in the harness."
        ),
    )
    when: list[When] = Field(
        default=["before", "after"],
        min_length=1,
        description="When it is scored: before training, at checkpoints that are scored, after training.",
    )

    @property
    def probe(self) -> str:
        """Name of the probe."""
        return self.name or re.sub(r"[^a-z0-9]+", "-", self.benchmark.lower()).strip("-")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"benchmark": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if not re.fullmatch(NAME_PATTERN, self.probe):
            raise ValueError(f"{self.probe!r} cannot be a probe's name; give one in the field name")
        return self

    @model_validator(mode="after")
    def _before_and_after(self) -> Self:
        if "after" in self.when and "before" not in self.when:
            raise ValueError("when: after without before would leave nothing to compare with; give both")
        return self
