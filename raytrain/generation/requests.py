"""What a model is asked and what comes back: plain data, without torch."""

from dataclasses import dataclass
from typing import Any, Literal

ModelKind = Literal["base", "checkpoint", "export"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model to be scored.

    `uri` is, for a base model, whatever `raytrain.model.resolve` takes; for a checkpoint or an
    export its storage prefix (the checkpoint's config and tokenizer are the base model's). `digest`
    tells models apart: scores of the same digest are not made again.
    """

    kind: ModelKind
    uri: str
    digest: str
    step: int = 0
    named: str = ""
    """What a base model is called in the job: fetched by that name where `uri` is a folder of another node."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked: to answer the prompt, how likely `target` is, and how likely each of `choices`."""

    prompt: str
    target: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[str, ...]:
        """The answers whose likelihood is asked: the target, if there is one, then the choices."""
        return self.choices if self.target is None else (self.target, *self.choices)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote: the text, its length in tokens (end mark not counted), whether the limit cut it off.

    And what it thinks of answers that it was shown (nats, summed over tokens, end mark included),
    where it was asked.
    """

    text: str
    tokens: int
    cut_off: bool
    read: int = 0
    """Tokens of the prompt, as it was read."""
    loss: float | None = None
    """Of the first reference."""
    loss_tokens: int = 0
    choice_losses: tuple[float, ...] = ()

    def measured(self) -> dict[str, Any]:
        """What metrics find in a row's meta."""
        found: dict[str, Any] = {}
        if self.loss is not None:
            found |= {"loss": self.loss, "loss_tokens": self.loss_tokens}
        if self.choice_losses:
            found["choice_losses"] = self.choice_losses
        return found


@dataclass(frozen=True, slots=True)
class Limits:
    """How a model is asked: tokens that it reads and writes at most, examples that it answers at once, beams."""

    max_input_tokens: int
    max_new_tokens: int
    batch_size: int = 32
    beams: int = 1

    @property
    def decoding(self) -> str:
        """For the protocol."""
        return "greedy" if self.beams == 1 else f"beam search, {self.beams} beams"
