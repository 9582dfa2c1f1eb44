"""ROUGE (Lin 2004) by rouge-score-rs, which is bit-equal to rouge_score.

Both know the letters a to z alone, so that a text in Cyrillic has no words and scores 0 against
itself. By default, text in other scripts therefore has words of its own (`ScriptTokenizer`).

How ROUGE is computed can change the score more than most training does, so the ways of others are
presets, of which nothing is changed: `rouge1@t5` is what the papers of T5 and FLAN report,
`rouge1@hf` what transformers' example scripts and most model cards report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import regex
from rouge_score_rs.rouge_scorer import RougeScorer
from rouge_score_rs.tokenizers import DefaultTokenizer, Tokenizer, UnicodeTokenizer

from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# After . ! ? and their like before white space; in Chinese and Japanese also without any.
_SENTENCE_END = regex.compile(r"(?<=[.!?।॥؟۔።։])\s+|(?<=[。！？｡][」』”’）]*)\s*(?![。！？｡」』”’）\s])(?!$)")

# From a letter or digit that is neither Latin nor ASCII up to the next that is; full-width letters,
# which Chinese and Japanese texts hold, are not.
_WIDE = "Ａ-Ｚａ-ｚ"
_OTHER_SCRIPT = regex.compile(
    rf"([[\p{{L}}--[\p{{Script=Latin}}\p{{Script=Common}}]][\p{{Nd}}--[0-9]][{_WIDE}]]"
    rf"[^[\p{{Script=Latin}}--[{_WIDE}]]0-9]*)",
    regex.V1,
)
_LATIN_WORD = regex.compile(r"[A-Za-z0-9]")
_CHARACTER = regex.compile(r"\X")


def split_sentences(text: str) -> str:
    """Returns `text` with every sentence on a line of its own, as ROUGE-Lsum expects it.

    A sentence ends after `.`, `!`, `?` or the like of another script before white space, after `。`
    also without, and at a line break. No model is needed (nltk's `punkt` is a download);
    abbreviations ("Mr. Smith") are split too, in predictions and references alike.
    """
    return str(_SENTENCE_END.sub("\n", text))


def split_spaced_stops(text: str) -> str:
    """Splits sentences as T5 does: at full stops between blanks, as CNN/DailyMail writes them."""
    return text.replace(" . ", " .\n")


def strip_and_split(text: str) -> str:
    """Prepares a text as transformers' run_summarization.py does, without nltk's splitter."""
    return split_sentences(text.strip())


@dataclass(frozen=True, slots=True)
class RougeWay:
    """A way to compute ROUGE; `prepare` is applied before rougeLsum."""

    label: str
    stemmer: bool
    split: str
    prepare: Callable[[str], str]
    first_reference_only: bool = False
    every_script: bool = False


OURS = RougeWay(
    "",
    stemmer=True,
    split="sentences end after . ! ? (and the like of other scripts) and at line breaks",
    prepare=split_sentences,
    every_script=True,
)
T5 = RougeWay("t5", stemmer=False, split='sentences end at " . "', prepare=split_spaced_stops)
HUGGING_FACE = RougeWay(
    "hf",
    stemmer=True,
    split="sentences end after . ! ? and at line breaks (nltk's punkt there)",
    prepare=strip_and_split,
    first_reference_only=True,
)


class ScriptTokenizer(Tokenizer):
    """Words of every script; text in Latin letters is tokenized as rouge_score does.

    Other scripts are split into the words of Unicode's rules (UAX #29), and into characters where
    words are not separated: Chinese, Japanese (not Katakana), Thai, Lao, Khmer, Burmese. A mixed
    text is split where the script changes, so that its Latin words stay what they are alone. A text
    of which this leaves nothing, such as `Ở đó` or an emoji, has its Unicode words, or else its
    characters.
    """

    def __init__(self, *, stemmer: bool) -> None:
        self._latin: Any = DefaultTokenizer(stemmer)
        self._other: Any = UnicodeTokenizer()

    def tokenize(self, text: str) -> list[str]:
        """Returns the tokens in order."""
        parts = _OTHER_SCRIPT.split(text)  # every second one is in another script
        found = [
            token
            for place, part in enumerate(parts)
            for token in (self._other if place % 2 else self._latin).tokenize(part)
        ]
        if found or text.isascii():
            return found
        words: list[str] = self._other.tokenize(text)
        return words or _CHARACTER.findall("".join(text.split()))


def needs_every_script(text: str) -> bool:
    """Whether `text` has a letter that is not Latin, digits besides 0 to 9, or no word of a-z."""
    if text.isascii():
        return False
    return _OTHER_SCRIPT.search(text) is not None or _LATIN_WORD.search(text) is None


@cache
def _scorer(stemmer: bool, every_script: bool) -> Any:
    tokenizer = ScriptTokenizer(stemmer=stemmer) if every_script else DefaultTokenizer(stemmer)
    return RougeScorer(list(KINDS), tokenizer=tokenizer)


@lru_cache(maxsize=1)
def _batch(way: RougeWay, targets: tuple[str, ...], predictions: tuple[str, ...]) -> Mapping[str, Floats]:
    """Returns the F1 of each pair for every kind.

    A task needs one kind after the other for the same texts, so tokenizing and stemming is done
    once for all of them. Line breaks do not matter to the kinds other than rougeLsum. Pairs in
    Latin letters are scored natively, 80 times as fast as one by one.
    """
    pairs = [(way.prepare(t), way.prepare(p)) for t, p in zip(targets, predictions, strict=True)]
    scores = _scorer(way.stemmer, every_script=False).score_batch([t for t, _ in pairs], [p for _, p in pairs])
    if way.every_script:
        scorer = _scorer(way.stemmer, every_script=True)
        scores = [
            scorer.score(*pair) if any(map(needs_every_script, pair)) else score
            for pair, score in zip(pairs, scores, strict=True)
        ]
    return {kind: np.array([score[kind].fmeasure for score in scores], dtype=np.float64) for kind in KINDS}


def clear_cache() -> None:
    """Drops the scores kept for the next kind, so that a benchmark measures their computation."""
    _batch.cache_clear()


class Rouge(MeanMetric):
    """Mean F1 of one kind of ROUGE over rows, each against its best reference."""

    def __init__(self, kind: str, way: RougeWay = OURS) -> None:
        self.name = f"{kind}@{way.label}" if way.label else kind
        self._kind, self._way = kind, way

    @property
    def protocol(self) -> str:
        """Package and version, stemmer, sentence split, references, mean."""
        stemmer = "Porter stemmer" if self._way.stemmer else "no stemmer"
        words = "words of a-z and 0-9"
        if self._way.every_script:
            words += "; other scripts: words of UAX #29 (unicode-v1), characters where words are not separated"
            words += "; a text without any of these: its words of UAX #29, or else its characters"
        split = f", {self._way.split}" if self._kind == "rougeLsum" else ""
        references = "first reference only" if self._way.first_reference_only else "best of several references"
        mean = "mean over rows" + (" (the median of unseeded bootstraps there)" if self._way.label else "")
        package = f"rouge-score-rs {version('rouge-score-rs')}"
        return f"{package}, F1, {words}, {stemmer}{split}, {references}, {mean}"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns F1 against the best reference."""
        return float(self.stats_many([prediction], [targets], [meta])[0, 0])

    def stats_many(self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> Floats:
        """Returns (F1, 1) of each row; all pairs are scored in one call."""
        if not all(targets):
            return super().stats_many(predictions, targets, metas)
        references = [row[:1] if self._way.first_reference_only else row for row in targets]
        flat_targets = tuple(t for row in references for t in row)
        flat_predictions = tuple(p for p, row in zip(predictions, references, strict=True) for _ in row)
        values = _batch(self._way, flat_targets, flat_predictions)[self._kind]
        starts = np.cumsum([0, *(len(row) for row in references)])[:-1]
        best = np.maximum.reduceat(values, starts) if len(values) else values
        return np.stack([best, np.ones_like(best)], axis=1)
