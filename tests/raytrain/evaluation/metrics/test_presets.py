"""Presets of other protocols, against the code that they are named after."""

import random
import re
import string
from collections import Counter

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from data_prep.config import Source, Task
from raytrain.evaluation.metrics import METRICS, PRESETS, metrics_for
from raytrain.evaluation.metrics.squad import normalize

TEXT = "The cats were running quickly . A report's summary said : 3.5% of dogs ran . Yes! No? Über"
WORDS = TEXT.split()
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def texts(seed, count, longest=30):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_rouge_as_t5_computes_it(kind):
    """t5.evaluation.metrics.rouge: no stemmer, " .

    " splits sentences; FLAN takes the best reference.
    """
    predictions, first, second = texts(1, 60), texts(2, 60), texts(3, 60)
    oracle = RougeScorer([kind])

    def prepared(text):
        return text.replace(" . ", " .\n")

    expected = [
        max(oracle.score(prepared(t), prepared(p))[kind].fmeasure for t in several)
        for p, *several in zip(predictions, first, second, strict=True)
    ]
    metric = METRICS[f"{kind}@t5"]
    stats = metric.stats_many(predictions, list(zip(first, second, strict=True)), [{}] * 60)
    assert stats[:, 0].tolist() == pytest.approx(expected, abs=1e-12)
    assert metric.score(stats) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_rouge_as_the_hugging_face_script_computes_it(kind):
    """run_summarization.py: stemmer, sentences on lines of their own, one reference."""
    predictions = [p + "\n" for p in texts(4, 60)]
    first, second = texts(5, 60), texts(6, 60)
    oracle = RougeScorer([kind], use_stemmer=True)

    def lines(text):  # for these texts what nltk's splitter gives: no abbreviations in them
        return text.strip().replace(". ", ".\n").replace("! ", "!\n").replace("? ", "?\n")

    prepare = lines if kind == "rougeLsum" else str
    expected = [oracle.score(prepare(t), prepare(p))[kind].fmeasure for p, t in zip(predictions, first, strict=True)]
    metric = METRICS[f"{kind}@hf"]
    stats = metric.stats_many(predictions, list(zip(first, second, strict=True)), [{}] * 60)
    assert stats[:, 0].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_ways_differ_and_their_protocols_too():
    predictions, targets = texts(7, 80), [[a, b] for a, b in zip(texts(8, 80), texts(9, 80), strict=True)]
    scores, protocols = set(), set()
    for name in ("rougeLsum", "rougeLsum@t5", "rougeLsum@hf"):
        metric = METRICS[name]
        scores.add(metric.score(metric.stats_many(predictions, targets, [{}] * 80)))
        protocols.add(metric.protocol)
    assert len(scores) == len(protocols) == 3
    assert "no stemmer" in METRICS["rouge1@t5"].protocol
    assert "first reference only" in METRICS["rouge1@hf"].protocol


def test_bleu_as_t5_computes_it():
    predictions, targets = texts(10, 50), texts(11, 50)
    metric = METRICS["bleu@t5"]
    ours = metric.score(metric.stats_many(predictions, [[t] for t in targets], [{}] * 50))
    expected = corpus_bleu(predictions, [targets], smooth_method="exp", tokenize="intl", force=False).score / 100
    assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "targets", "exact", "f1"),
    [("The Eiffel Tower!", ["eiffel tower"], 1, 1), ("in Paris", ["Paris", "Lyon"], 0, 2 / 3), ("", ["x"], 0, 0),
     ("the", ["an"], 0, 0), ("An.", ["an"], 1, 1), ("a b c", ["c b"], 0, 1), ("Ann's cat", ["anns dog"], 0, 1 / 2)],
)  # fmt: skip
def test_squad_by_hand(prediction, targets, exact, f1):
    for name, expected in (("exact@squad", exact), ("f1@squad", f1)):
        metric = METRICS[name]
        assert metric.combine(metric.stats(prediction, targets, {})) == pytest.approx(expected), name


@pytest.mark.parametrize("silence", ["", " ", ".", "the", "..."])
def test_squad_does_not_reward_silence(silence):
    """SQuAD's script keeps nothing of "(A)", so that an empty prediction equals it."""
    for name in ("exact@squad", "f1@squad"):
        metric = METRICS[name]
        assert metric.score(metric.stats_many([silence] * 2, [["(A)"], ["(B)"]], [{}] * 2)) == 0, name
        assert metric.score(metric.stats_many(["A.", "(B)"], [["(A)"], ["(B)"]], [{}] * 2)) == 1, name


def official_squad(prediction, target):
    """evaluate-v1.1.py: (exact, F1) of one pair."""

    def words(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    given, wanted = words(prediction), words(target)
    same = sum((Counter(given) & Counter(wanted)).values())
    if same == 0:
        return float(given == wanted), 0.0
    precision, recall = same / len(given), same / len(wanted)
    return float(given == wanted), 2 * precision * recall / (precision + recall)


def test_squad_is_the_official_script_where_a_reference_has_words():
    draw = random.Random(12)
    pieces = ["The", "a", "cat", "3.5%", "(B)", "it's", "Über", "dog!", "an"]
    pairs = [[" ".join(draw.choices(pieces, k=draw.randint(1, 6))) for _ in range(2)] for _ in range(300)]
    pairs = [(prediction, target) for prediction, target in pairs if normalize(target)]
    assert len(pairs) > 250
    for prediction, target in pairs:
        exact, f1 = official_squad(prediction, target)
        assert METRICS["exact@squad"].value(prediction, [target], {}) == exact
        assert METRICS["f1@squad"].value(prediction, [target], {}) == pytest.approx(f1, abs=1e-12)


def test_squad_normalisation_is_the_official_one():
    assert normalize(" The  U.S.A. (an_example)! ") == "usa anexample"


def test_a_preset_names_several_metrics():
    task = Task(name="t", type="summarization", source=Source(uri="x"), metrics=["rougeL", "rouge@t5", "rouge1@t5"])
    assert [m.name for m in metrics_for(task)] == ["rougeL", *PRESETS["rouge@t5"]]
    assert all(name in METRICS for names in PRESETS.values() for name in names)
