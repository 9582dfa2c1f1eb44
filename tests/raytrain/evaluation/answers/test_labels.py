"""Which label an answer names: forms that are read, and what is unparsable."""

import pytest

from raytrain.evaluation.answers.labels import label_reader
from raytrain.evaluation.metrics import METRICS

# Labels, and answers with the label that each one names.
CASES = {
    "stars": (
        ("1", "2", "3", "4", "5"),
        [
            ("4", "4"),
            (" 4 ", "4"),
            ("4.0", "4"),
            ("4 stars", "4"),
            ("I'd say 5, not 1", "5"),
            ("7", None),
            ("", None),
            ("good", None),
            ("-4", None),
            ("44", None),
            ("1-5: 4", "4"),
            ("four", "4"),
            ("****", "4"),
            ("4/5", "4"),
            ("4/10", None),
            ("8/10", None),
            ("**4**", "4"),
            ("(4)", "4"),
            ("4.", "4"),
            ("4 out of 5", "4"),
            ("4 (out of 5)", "4"),
            ("four stars", "4"),
            ("Four.", "4"),
            ("Rating: four", "4"),
            ("★★★★", "4"),
            ("★★★★☆", "4"),
            ("⭐⭐⭐⭐", "4"),
            ("⭐️⭐️⭐️⭐️", "4"),
            ("4★", "4"),
            ("4 ★", "4"),
            ("4.5", None),
            ("4,5", None),
            ("3-4", None),
            ("5 or 4", None),
            ("between 3 and 4", None),
            ("1-5", None),
            ("from 1 to 5: 4", "4"),
            ("(1-5) 4", "4"),
            ("On a scale of 1 to 5, 4", "4"),
            ("not 4", None),
            ("4 stars, not bad", "4"),
            ("no stars", None),
            ("4 of 5 stars", "4"),
            ("1,000", None),
            ("4%", None),
            ("$4", None),
            ("4th", None),
            ("I give it 4 stars out of 5", "4"),
            ("I bought 12 and give 4", None),
            ('{"stars": 4}', "4"),
            ('"4"', "4"),
            ("4 / 5", "4"),
            ("5/5", "5"),
            ("1/5", "1"),
            ("four out of five", "4"),
            ("no one likes it", None),
            ("4!", "4"),
            ("٤", "4"),
            ("４", "4"),
            ("3 to 4", None),
            ("4 stars 4 stars", "4"),
            ("4 5", None),
            ("4, 5", None),
            ("1 - 5: 4", "4"),
            ("4/5 stars", "4"),
            ("4-star", "4"),
            ("4stars", "4"),
            ("4star", "4"),
            ("****.", "4"),
            ("* * * *", "4"),
            ("*", "1"),
            ("3.5/5", None),
            ("the rating is 4", "4"),
            ("Stars: ****", "4"),
            ("rating 4 of 10", None),
            ("4 points", "4"),
            ("minus 4", None),
            ("4+", None),
            ("5-", None),
        ],
    ),
    "stars with a unit": (
        ("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
        [
            ("4", "4 stars"),
            ("4 stars", "4 stars"),
            ("four stars", "4 stars"),
            ("1 star", "1 star"),
            ("1", "1 star"),
            ("6", None),
        ],
    ),
    "signed numbers": (
        ("-1", "0", "1"),
        [("-1", "-1"), ("−1", "-1"), ("1", "1"), ("+1", "1"), ("0", "0"), ("negative one", None)],
    ),
    "sentiment": (
        ("negative", "positive"),
        [
            ("positive.", "positive"),
            ("(positive)", "positive"),
            ("The sentiment is positive", "positive"),
            ("**positive**", "positive"),
            ("not positive", None),
            ("POSITIVE!!!", "positive"),
            ("positive and negative", None),
            ("positive or negative", None),
            ("isn't positive", None),
            ("isn’t positive", None),
            ("not very positive", None),
            ("There is nothing positive about it", None),
            ("not negative, positive", "positive"),
            ("not negative but positive", "positive"),
            ("non-positive", None),
            ("nonpositive", None),
            ("unpositive", None),
            ('"positive"', "positive"),
            ("[positive]", "positive"),
            ("<positive>", "positive"),
            ('{"label": "positive"}', "positive"),
            ("- positive", "positive"),
            ("positive\nbecause", "positive"),
            ("Sentiment: Positive", "positive"),
            ("positive? No.", None),
            ("positively", None),
            ("", None),
            ("neither positive nor negative", None),
            ("anything but positive", None),
            ("far from positive", None),
            ("this is a positive review", "positive"),
            ("positive, no doubt", "positive"),
            ("_positive_", "positive"),
            ("*positive*", "positive"),
            ("`positive`", "positive"),
            ("no", None),
            ("mixed", None),
            ("never positive", None),
            ("positive positive", "positive"),
            ("it is not positive. It is negative", "negative"),
            ("cannot be called positive", None),
            ("positive is wrong", None),
            ("!positive", None),
            ("It's positive", "positive"),
            ("positive/negative", None),
            ("Positive-ish", None),
            ("label=positive", "positive"),
            ("posi", None),
            ("the opposite of positive", None),
            ("'positive'", "positive"),
            ("positive 👍", "positive"),
            ("Yes, positive", "positive"),
            ("No, positive", "positive"),
        ],
    ),
    "degrees": (
        ("very negative", "negative", "neutral", "positive", "very positive"),
        [
            ("very positive", "very positive"),
            ("it is very positive", "very positive"),
            ("positive", "positive"),
            ("neutral to positive", None),
            ("not very positive", None),
        ],
    ),
    "a negated label": (
        ("entailment", "not_entailment"),
        [
            ("not entailment", "not_entailment"),
            ("not_entailment", "not_entailment"),
            ("entailment", "entailment"),
            ("not-entailment", "not_entailment"),
            ("This is not entailment", "not_entailment"),
            ("it is not_entailment.", "not_entailment"),
        ],
    ),
    "yes and no": (
        ("yes", "no"),
        [
            ("yes", "yes"),
            ("No.", "no"),
            ("no, it is not", "no"),
            ("Answer: no", "no"),
            ("yes, no doubt", None),
            ("not yes", None),
        ],
    ),
    "true and false": (
        ("true", "false"),
        [
            ("true", "true"),
            ("!true", None),
            ("~true", None),
            ("It is false", "false"),
            ("not true", None),
            ("false.", "false"),
        ],
    ),
    "signs": (("C", "C#", "C++"), [("C#", "C#"), ("C", "C"), ("c++", "C++"), ("C.", "C"), ("the answer is C#", None)]),
    "letters": (("a", "b", "c"), [("a", "a"), ("A.", "a"), ("(b)", "b"), ("a positive", None)]),
    "bare signs": (("+", "-"), [("+", "+"), ("-", "-"), ("–", "-")]),
    "asterisks": (("*", "**", "***"), [("*", "*"), ("**", "**")]),
    "case alone": (("US", "us"), [("US", "US"), ("us", "us"), ("Us", None)]),
    "Chinese": (
        ("正面", "负面"),
        [("正面", "正面"), ("这条评论是正面的", "正面"), ("不是正面的", None), ("正面。", "正面")],
    ),
    "German": (
        ("positiv", "negativ"),
        [("Das ist nicht positiv", None), ("positiv ist es nicht", None), ("Die Stimmung ist positiv.", "positiv")],
    ),
    "Russian": (
        ("положительный", "отрицательный"),
        [("не положительный", None), ("Отзыв положительный.", "положительный")],
    ),
    "a slash": (
        ("World", "Sports", "Sci/Tech"),
        [
            ("sci/tech", "Sci/Tech"),
            ("Category: Sci/Tech", "Sci/Tech"),
            ("World and Sports", None),
            ("Sports.", "Sports"),
        ],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_answers_of(kind):
    labels, answers = CASES[kind]
    reader = label_reader(labels)
    for answer, label in answers:
        place = reader.read(answer)
        assert (None if place is None else labels[place]) == label, answer


@pytest.mark.parametrize("kind", CASES)
def test_every_label_names_itself(kind):
    labels, _ = CASES[kind]
    assert [label_reader(labels).read(label) for label in labels] == list(range(len(labels)))


def test_what_names_no_label_is_wrong_and_counted():
    meta = {"labels": ["negative", "positive"]}
    predictions, targets = ["not positive", "positive.", "both positive and negative"], [["positive"]] * 3
    for name, score in (("accuracy", 1 / 3), ("no_label", 2 / 3)):
        metric = METRICS[name]
        assert metric.score(metric.stats_many(predictions, targets, [meta] * 3)) == pytest.approx(score)
    assert [METRICS["accuracy"].unreadable(p, meta) for p in predictions] == [True, False, True]
