"""Requests to a model and what it generates: plain data, without torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from raytrain.config.job import FineTuneJob

ModelKind = Literal["base", "checkpoint", "export"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Refers to a model that can be loaded.

    `uri` of a base model is anything that `raytrain.model.source.resolve` accepts. For a checkpoint
    or an export it is the storage prefix; a checkpoint's config and tokenizer are those of the base
    model. `digest` identifies the weights: scores of the same digest are reused.
    """

    kind: ModelKind
    uri: str
    digest: str
    step: int = 0
    named: str = ""
    """A base model's name in the job, used where `uri` is a folder of another node."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt, and texts whose likelihood should be measured: a target and choices."""

    prompt: str
    target: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def scored_texts(self) -> tuple[str, ...]:
        """The texts whose likelihood is measured: the target, if there is one, then the choices."""
        return self.choices if self.target is None else (self.target, *self.choices)


@dataclass(frozen=True, slots=True)
class BenchmarkRequest:
    """What a benchmark asks for one row, as lm-evaluation-harness asks it.

    Either `pairs`, each a context and a continuation whose log-likelihood is measured; or a
    `context` after which text is generated, up to a text of `until` or `max_new_tokens` tokens.
    Contexts of more than `max_input_tokens` tokens lose their beginning.
    """

    max_input_tokens: int
    pairs: tuple[tuple[str, str], ...] = ()
    context: str = ""
    until: tuple[str, ...] = ()
    max_new_tokens: int = 0


Request = GenerationRequest | BenchmarkRequest


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model generated for one request, and the losses of the texts it should score.

    Losses are in nats, summed over the tokens of a text, end-of-sequence token included.
    """

    text: str
    tokens: int
    """Generated tokens, without the end-of-sequence token."""
    cut_off: bool
    """Whether generation stopped at the token limit."""
    prompt_tokens: int = 0
    """Tokens of the prompt after truncation."""
    loss: float | None = None
    """Loss of the target."""
    loss_tokens: int = 0
    choice_losses: tuple[float, ...] = ()
    log_likelihoods: tuple[tuple[float, bool], ...] = ()
    """Of each pair of a benchmark's request: the sum over the continuation's tokens in nats,
    without an end-of-sequence token, and whether greedy decoding would have produced it."""
    prompt_cut: bool = False
    """Whether a benchmark's context lost its beginning."""

    def measured(self) -> dict[str, Any]:
        """Returns the losses under the keys that metrics look up in a row's meta."""
        measured: dict[str, Any] = {}
        if self.loss is not None:
            measured |= {"loss": self.loss, "loss_tokens": self.loss_tokens}
        if self.choice_losses:
            measured["choice_losses"] = self.choice_losses
        return measured


@dataclass(frozen=True, slots=True)
class GenerationLimits:
    """Limits of generation: prompt and new tokens, requests per batch, beams."""

    max_input_tokens: int
    max_new_tokens: int
    batch_size: int = 32
    beams: int = 1

    @classmethod
    def from_job(cls, job: "FineTuneJob") -> "GenerationLimits":
        """Returns a job's limits; by default a generation may be as long as a training target."""
        spec = job.spec
        return cls(
            max_input_tokens=spec.training.max_input_tokens,
            max_new_tokens=spec.evaluation.max_new_tokens or spec.training.max_target_tokens,
            batch_size=spec.evaluation.batch_size,
            beams=spec.evaluation.beams,
        )

    @property
    def decoding(self) -> str:
        """The decoding method in words, for the protocol of a score."""
        return "greedy" if self.beams == 1 else f"beam search, {self.beams} beams"
