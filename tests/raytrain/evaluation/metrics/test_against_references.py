"""Every metric against the reference implementation that it is usually compared with."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from data_prep.tasks.task_types import entities_of, format_entities
from raytrain.evaluation.metrics import METRICS, rouge

TEXT = "The cats were running quickly; a report's summary, Mr. Smith said: 3.5% of running dogs ran. Yes! No?"
WORDS = TEXT.split()


def texts(seed, count, longest=40):
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(0, longest))) for _ in range(count)]


ODD = [
    "",
    " ",
    "\n\n",
    "...",
    "Ünïcödé straße",
    "a\x00b",
    "123",
    "İstanbul",
    "one\ntwo. three",
    "5 µm², 2º",
    "Đã đi — là",
]


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_of_latin_text_is_bit_equal_to_rouge_score(kind):
    predictions = texts(1, 120) + ODD
    targets = [
        [first, second] if i % 3 else [first]
        for i, (first, second) in enumerate(zip(texts(2, 120) + ODD[::-1], texts(3, 120) + ODD, strict=True))
    ]
    metric = METRICS[kind]
    stats = metric.stats_many(predictions, targets, [{}] * len(predictions))
    oracle = RougeScorer([kind], use_stemmer=True)
    prepare = rouge.split_sentences if kind == "rougeLsum" else str
    expected = [
        oracle.score_multi([prepare(t) for t in several], prepare(prediction))[kind].fmeasure
        for prediction, several in zip(predictions, targets, strict=True)
    ]
    assert stats[:, 0].tolist() == expected
    assert [metric.stats(p, t, {})[0] for p, t in zip(predictions, targets, strict=True)] == expected
    assert metric.score(stats) == pytest.approx(np.mean(expected), abs=1e-15)
    assert 0.1 < metric.score(stats) < 0.9


def test_the_protocol_of_rouge_names_its_package():
    assert METRICS["rougeL"].protocol.startswith("rouge-score-rs 0.")
    assert "sentences end after" in METRICS["rougeLsum"].protocol
    assert "sentences" not in METRICS["rougeL"].protocol


def test_rouge_lsum_differs_from_rouge_l_because_of_the_split():
    prediction, target = "Ann left. Bob stayed home.", "Bob stayed home. Ann left."
    assert METRICS["rougeLsum"].stats(prediction, [target], {})[0] == 1.0
    assert METRICS["rougeL"].stats(prediction, [target], {})[0] < 1.0


CODE = st.text(alphabet="abc (){};=\n\tdefint", max_size=60)


@settings(max_examples=60)
@given(st.lists(st.tuples(CODE, CODE), min_size=1, max_size=8))
def test_chrf_and_bleu_are_sacrebleus(pairs):
    predictions = [p for p, _ in pairs]
    targets = [[t] for _, t in pairs]
    for name, oracle in (("chrf", CHRF()), ("bleu", BLEU(force=True))):
        metric = METRICS[name]
        ours = metric.score(metric.stats_many(predictions, targets, [{}] * len(pairs)))
        assert ours == pytest.approx(oracle.corpus_score(predictions, [[t for [t] in targets]]).score / 100, abs=1e-12)


def test_chrf_and_bleu_with_several_references():
    predictions = texts(5, 40, 20)
    first, second = texts(6, 40, 20), texts(7, 40, 20)
    for name, oracle in (("chrf", CHRF()), ("bleu", BLEU(force=True))):
        metric = METRICS[name]
        stats = metric.stats_many(predictions, list(zip(first, second, strict=True)), [{}] * 40)
        expected = oracle.corpus_score(predictions, [first, second]).score / 100
        assert metric.score(stats) == pytest.approx(expected, abs=1e-12)
        assert 0 < expected < 1


def test_bleu_is_sacrebleus_for_any_counts():
    draw = np.random.default_rng(4)
    metric = METRICS["bleu"]
    sums = []
    for _ in range(400):
        total = np.maximum(draw.integers(0, 12) - np.arange(4), 0)
        matching = draw.integers(0, total + 1)
        sums.append([total[0], draw.integers(0, 12), *matching, *total])
    expected = [
        BLEU.compute_bleu([*map(int, row[2:6])], [*map(int, row[6:])], int(row[0]), int(row[1]), "exp").score / 100
        for row in sums
    ]
    assert metric.combine_many(np.array(sums, dtype=float)) == pytest.approx(expected, abs=1e-12)
    assert sum(0 < score < 1 for score in expected) > 100


def test_chrf_of_every_row_is_sacrebleus_sentence_score():
    predictions, targets = texts(8, 30), texts(9, 30)
    metric = METRICS["chrf"]
    rows = metric.score_rows(metric.stats_many(predictions, [[t] for t in targets], [{}] * 30))
    expected = [CHRF().sentence_score(p, [t]).score / 100 for p, t in zip(predictions, targets, strict=True)]
    assert rows == pytest.approx(expected, abs=1e-12)


@st.composite
def tagged_sentences(draw):
    """A sentence with gold and predicted BIO tags; all words differ, so text gives position."""
    length = draw(st.integers(1, 12))
    words = [f"w{i}" for i in range(length)]

    def tags():
        found = []
        while len(found) < length:
            kind = draw(st.sampled_from(["O", "O", "PER", "LOC"]))
            if kind == "O":
                found.append("O")
            else:
                found += [f"B-{kind}"] + [f"I-{kind}"] * draw(st.integers(0, 2))
        return found[:length]

    return words, tags(), tags()


@settings(max_examples=80)
@given(st.lists(tagged_sentences(), min_size=1, max_size=6))
def test_entity_scores_are_seqevals(sentences):
    from seqeval.metrics import f1_score, precision_score, recall_score

    predictions = [format_entities(entities_of(words, predicted)) for words, _, predicted in sentences]
    targets = [[format_entities(entities_of(words, gold))] for words, gold, _ in sentences]
    gold, predicted = [s[1] for s in sentences], [s[2] for s in sentences]
    some = any(tag != "O" for tags in gold for tag in tags) and any(tag != "O" for tags in predicted for tag in tags)
    for name, oracle in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        metric = METRICS[name]
        ours = metric.score(metric.stats_many(predictions, targets, [{}] * len(predictions)))
        if some:  # without entities seqeval gives 0; here nothing predicted is correct: 1
            assert ours == pytest.approx(oracle(gold, predicted, zero_division=0), abs=1e-12)
