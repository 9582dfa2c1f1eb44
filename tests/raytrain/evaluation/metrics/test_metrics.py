"""Each metric on predictions that can be judged by eye."""

import numpy as np
import pytest

from data_prep.config import Source, Task
from raytrain.evaluation.metrics import METRICS, metrics_for
from raytrain.evaluation.metrics.match import normalize_code
from raytrain_core.errors import DataError, UsageError

META = {"loss": 3.0, "loss_tokens": 2, "choice_losses": (0.5, 0.1), "language": "Python"}
FIVE = {"labels": ["1", "2", "3", "4", "5"]}


def one(name, prediction, *targets, meta=None):
    metric = METRICS[name]
    return metric.combine(metric.stats(prediction, targets, meta or {}))


def test_word_labels_are_positions_in_their_list():
    meta = {"labels": ["bad", "fair", "Good"]}
    assert one("accuracy", "good", "Good", meta=meta) == 1
    assert one("within_one", "fair", "Good", meta=meta) == 1
    assert one("mae", "bad", "Good", meta=meta) == 2
    assert one("mae", "???", "fair", meta=meta) == 1  # the largest distance from the middle


@pytest.mark.parametrize(
    ("prediction", "accuracy", "within_one", "mae"),
    [("2", 1, 1, 0), ("3", 0, 1, 1), ("5", 0, 0, 3), ("no idea", 0, 0, 3), ("", 0, 0, 3), ("9", 0, 0, 3)],
)
def test_rating_metrics(prediction, accuracy, within_one, mae):
    assert one("accuracy", prediction, "2", meta=FIVE) == accuracy
    assert one("within_one", prediction, "2", meta=FIVE) == within_one
    assert one("mae", prediction, "2", meta=FIVE) == mae
    assert METRICS["mae"].better == "lower"


def test_an_unparsable_rating_counts_as_the_largest_distance():
    assert one("mae", "", "3", meta=FIVE) == 2
    assert one("mae", "", "5", meta=FIVE) == 4


@pytest.mark.parametrize(
    ("prediction", "target", "same"),
    [("Cairo", "cairo", 1), ("The Hague.", "the hague", 1), ("(B)", "B", 1), ("Cairo ", "Paris", 0), ("+", "-", 0),
     ("", "x", 0), ("well-known", "well known", 0), ("ﬁne", "fine", 1)],
)  # fmt: skip
def test_exact_match_of_short_answers(prediction, target, same):
    assert one("exact_match", prediction, target) == same


@pytest.mark.parametrize(
    ("prediction", "right"),
    [("(B)", 1), ("b", 1), ("B. Paris", 1), ("Paris", 1), ("Cairo", 0), ("(A)", 0), ("A Paris", 0), ("C", 0), ("", 0)],
)
def test_a_choice_can_be_named_by_letter_or_text(prediction, right):
    assert one("exact_match", prediction, "(B)", meta={"choices": ["Cairo", "Paris", "C", "C"]}) == right


def test_an_ambiguous_text_does_not_name_a_choice():
    assert one("exact_match", "A", "(B)", meta={"choices": ["B", "A"]}) == 0
    assert one("exact_match", "x", "(B)", meta={"choices": ["x", "x"]}) == 0


@pytest.mark.parametrize(
    ("prediction", "targets", "f1"),
    [("in Paris", ["Paris", "Lyon"], 2 / 3), ("", ["x"], 0), ("", ["(A)"], 0), ("C", ["C#"], 0), ("-5", ["5"], 0),
     ("a b c", ["c b"], 4 / 5), ("Paris, France.", ["paris france"], 1), ("星期五", ["星期一"], 2 / 3)],
)  # fmt: skip
def test_f1_of_words_keeps_signs(prediction, targets, f1):
    assert one("word_f1", prediction, *targets) == pytest.approx(f1)


def test_any_reference_counts():
    assert one("exact_match", "two", "2", "Two") == 1
    assert one("exact_code", "x = 2", "x=2", "x  =  2") == 1


def test_code_keeps_what_white_space_means():
    body = "def f(x):\n    if x:\n        return 1\n    return 2"
    assert one("exact_code", body.replace(" return", "  return", 1) + "\n\n", body) == 0  # other indentation
    assert one("exact_code", body.replace("if x", "if   x").replace("1\n", "1  \n\n"), body) == 1
    assert one("exact_code", 'print("a  b")', 'print("a b")') == 0  # blanks between quotes are part of a text
    assert normalize_code("a\t= 1\r\n\tb") == "a = 1\n    b"


@pytest.mark.parametrize(
    ("prediction", "target", "f1", "precision", "recall"),
    [("PER: Ann | LOC: Rome", "LOC: Rome | PER: Ann", 1, 1, 1), ("LOC: Ann", "PER: Ann", 0, 0, 0),
     ("PER: Ann", "PER: Ann | LOC: Rome", 2 / 3, 1, 1 / 2), ("PER: Ann | PER: Ann", "PER: Ann", 2 / 3, 1 / 2, 1),
     ("none", "none", 1, 1, 1), ("PER: Ann", "none", 0, 0, 1), ("none", "PER: Ann", 0, 0, 0),
     ("Ann lives in Rome", "none", 0, 0, 1), ("", "PER: Ann", 0, 0, 0)],
)  # fmt: skip
def test_entities_of_one_row(prediction, target, f1, precision, recall):
    for name, expected in (("f1", f1), ("precision", precision), ("recall", recall)):
        assert one(name, prediction, target) == pytest.approx(expected), name


def test_unparsable_answers_are_counted():
    metric = METRICS["unparsable"]
    predictions = ["PER: Ann", "none", "Ann lives in Rome", ""]
    assert metric.score(metric.stats_many(predictions, [["none"]] * 4, [{}] * 4)) == 0.5
    assert metric.better == "lower"


def test_a_row_without_reference_is_refused():
    for metric in METRICS.values():
        with pytest.raises(DataError, match="no target"):
            metric.stats_many(["x"], [[]], [{}])


def test_scores_are_functions_of_sums():
    """The score of any rows is `combine` of their summed statistics, for every metric."""
    predictions = ["PER: Ann", "4", "x = 1", "", "the cat sat"]
    targets = [["PER: Ann | LOC: Rome"], ["5"], ["x  = 1"], ["LOC: Rome"], ["a cat sat down"]]
    for metric in METRICS.values():
        stats = metric.stats_many(predictions, targets, [META] * 5)
        assert stats.shape == (5, len(metric.columns) or 30)
        assert np.isfinite(metric.score_rows(stats)).all()
        for rows in ([0], [1, 2], [0, 3, 4], [0, 1, 2, 3, 4]):
            singly = np.sum([metric.stats(predictions[i], targets[i], META) for i in rows], axis=0)
            assert metric.combine(singly) == pytest.approx(metric.score(stats[rows]), abs=1e-12)


def test_every_type_has_metrics_and_a_primary_metric():
    primary_scores = {
        "summarization": "rougeL",
        "rating": "accuracy",
        "ner": "f1",
        "code-translation": "chrf",
        "multiple-choice": "exact_match",
        "question-answering": "exact_match",
        "text": "rougeL",
    }
    for kind, primary_metric in primary_scores.items():
        task = Task(name="t", type=kind, source=Source(uri="x.jsonl"))
        assert metrics_for(task)[0].name == primary_metric


def test_the_job_chooses_metrics():
    task = Task(name="t", type="summarization", source=Source(uri="x.jsonl"), metrics=["rouge2", "chrf", "rouge2"])
    assert [metric.name for metric in metrics_for(task)] == ["rouge2", "chrf"]


def test_an_unknown_metric_is_named_with_the_nearest_one():
    task = Task(name="chats", type="summarization", source=Source(uri="x.jsonl"), metrics=["rougel"])
    with pytest.raises(UsageError, match=r"task chats: metrics: unknown metric 'rougel', did you mean rougeL\?"):
        metrics_for(task)
    with pytest.raises(UsageError, match="metrics is empty"):
        metrics_for(task.model_copy(update={"metrics": []}))
