"""Measures the mean lengths of each task's examples on sampled rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raytrain.check.model_size import ModelSize
from raytrain.check.source_rows import TaskRows
from raytrain.config.training import TrainingSpec
from raytrain_core.extras import how_to_install, missing_extra

CHARACTERS_PER_TOKEN = 4.0  # English text with T5's vocabulary; used only without the tokenizer

CountTokens = Callable[[Sequence[str], int], list[int]]


@dataclass(frozen=True, slots=True)
class MeanLengths:
    """Mean tokens of a task's examples after truncation, and the shares that are cut, 0..1."""

    source: float
    target: float
    cut: float
    """Of examples with a cut prompt or answer."""
    cut_prompts: float
    cut_answers: float


def measure(
    rows: Mapping[str, TaskRows], model: ModelSize, training: TrainingSpec
) -> tuple[dict[str, MeanLengths], str]:
    """Returns mean lengths by task, where rows could be read, and how they were measured."""
    sampled = {name: task_rows for name, task_rows in rows.items() if task_rows.prompts}
    if not sampled:
        return {}, "unknown, because the rows are"
    count, basis = _counter(model)
    return {name: _means(task_rows, count, training) for name, task_rows in sampled.items()}, basis


def mixture_means(lengths: Mapping[str, MeanLengths], shares: Mapping[str, float] | None) -> tuple[float, float] | None:
    """Returns mean source and target tokens of an example of the mixture.

    None if a task's are unknown.
    """
    if shares is None or not all(name in lengths for name in shares):
        return None
    return (
        sum(share * lengths[name].source for name, share in shares.items()),
        sum(share * lengths[name].target for name, share in shares.items()),
    )


def _counter(model: ModelSize) -> tuple[CountTokens, str]:
    if model.folder is None:
        basis = f"guessed from {CHARACTERS_PER_TOKEN:.0f} characters a token; the tokenizer is fetched with the model"
        return _guess, basis
    try:
        from data_prep.text.tokenizer_folder import read_tokenizer
    except ModuleNotFoundError as error:
        if missing_extra(error) is None:
            raise
        basis = f"guessed from {CHARACTERS_PER_TOKEN:.0f} characters a token; {how_to_install('train')} measures them"
        return _guess, basis
    tokenizer = read_tokenizer(model.folder)
    return (
        lambda texts, limit: [int(n) for n in tokenizer.encode_counted(texts, limit).lengths],
        "measured with the model's tokenizer",
    )


def _guess(texts: Sequence[str], limit: int) -> list[int]:
    return [round(len(text) / CHARACTERS_PER_TOKEN) + 1 for text in texts]


def _means(rows: TaskRows, count: CountTokens, training: TrainingSpec) -> MeanLengths:
    most_source, most_target = training.max_input_tokens, training.max_target_tokens
    sources, targets = count(rows.prompts, most_source), count(rows.targets, most_target)
    cut_prompts, cut_answers = [s > most_source for s in sources], [t > most_target for t in targets]
    cut = [either for prompt, answer in zip(cut_prompts, cut_answers, strict=True) if (either := prompt or answer)]
    return MeanLengths(
        sum(min(s, most_source) for s in sources) / len(sources),
        sum(min(t, most_target) for t in targets) / len(targets),
        len(cut) / len(sources),
        sum(cut_prompts) / len(sources),
        sum(cut_answers) / len(targets),
    )
