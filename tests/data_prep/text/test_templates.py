import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.config import TaskType
from data_prep.tasks.examples import example_maker
from data_prep.text.templates import BUILT_IN, template_order, templates_of
from raytrain_core.errors import UsageError
from raytrain_core.hashing import orders, splitmix64
from tests.support.data_prep_bench import make_task

FIELDS = {"from": "Java", "to": "C#"}


def fields_for(kind):
    """What the templates of a task type need."""
    return FIELDS if kind in ("translation", "code-translation") else {}


LOST_BY_T5 = "{}<>~\\^`"  # a template must not need what this project has to teach a model first


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_task_type_brings_eight_different_templates(kind):
    prompts = {template.render("the text") for template in templates_of(make_task(type=kind, fields=fields_for(kind)))}
    assert len(prompts) == len(BUILT_IN[kind]) >= 8


@pytest.mark.parametrize("kind", BUILT_IN)
@given(text=st.text(min_size=1))
def test_the_text_stands_in_the_prompt_exactly_as_it_is(kind, text):
    for template in templates_of(make_task(type=kind, fields=fields_for(kind))):
        before, after = template.segments
        assert template.render(text) == before + text + after


@pytest.mark.parametrize("text", ["{input}", "{from} {0} {} {{x}}", "%s $input", "}{"])
def test_braces_in_a_text_stay_text(text):
    task = make_task(type="code-translation", fields=FIELDS, templates=["{from}: {input} and {input} to {to}"])
    assert templates_of(task)[0].render(text) == f"Java: {text} and {text} to C#"


def test_a_field_with_braces_is_not_filled_in_again():
    task = make_task(templates=["{note} {input}"], fields={"note": "{input} {other}"})
    assert templates_of(task)[0].render("x") == "{input} {other} x"


def test_braces_that_are_no_place_stay_text():
    task = make_task(templates=["{} { } {1} {a-b} {input}"])
    assert templates_of(task)[0].render("x") == "{} { } {1} {a-b} x"


def test_a_template_without_the_input_is_named():
    with pytest.raises(UsageError, match=r"task notes: templates\[1\]: 'Summarize!' has no \{input\}"):
        templates_of(make_task(templates=["{input}", "Summarize!"]))


def test_an_unknown_field_is_named_with_those_that_are_known():
    with pytest.raises(UsageError, match=r"\{langauge\} is not a known field") as caught:
        templates_of(make_task(templates=["{langauge}: {input} {language}"], fields={"language": "C"}))
    assert "{input}, {language}" in str(caught.value)
    with pytest.raises(UsageError, match=r"\{from\} is not a known field"):
        templates_of(make_task(type="code-translation"))
    with pytest.raises(UsageError, match="no field may be named input"):
        templates_of(make_task(fields={"input": "x"}))


def test_labels_and_types_are_fields_of_their_own():
    rating = make_task(type="rating", labels=["bad", "good"], templates=["One of {labels}: {input}"])
    assert templates_of(rating)[0].render("x") == "One of bad, good: x"
    ner = make_task(type="ner", labels=["PER", "LOC"], templates=["Entities{types}: {input}"])
    assert templates_of(ner)[0].render("x") == "Entities (PER, LOC): x"
    assert templates_of(make_task(type="ner", templates=["Entities{types}: {input}"]))[0].render("x") == "Entities: x"


ROWS = {
    "summarization": ("the dialogue", ["a summary", "zebra quartz"]),
    "rating": ("the review", ["1", "5"]),
    "sentiment": ("the review", ["negative", "positive"]),
    "ner": ("the sentence", ["none", "PER: Zoe"]),
    "translation": ("the text", ["der Text", "zebra"]),
    "code-translation": ("int x;", ["var x;", "zebra"]),
    "multiple-choice": ("Which?", ["(A)", "(B)"]),
    "question-answering": ("Why?", ["because", "zebra"]),
    "text": ("do", ["done", "zebra"]),
}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_neither_a_template_nor_its_choice_depends_on_the_target(kind):
    """What does not depend on the answer cannot leak it."""
    task = make_task(type=kind, fields=fields_for(kind))
    templates = templates_of(task)
    text, answers = ROWS[kind]
    examples = [example_maker(task)({"input": text, "target": answer}) for answer in answers]
    assert examples[0].targets != examples[1].targets
    assert examples[0].input == examples[1].input
    orders = [template_order(17, example.meta["input"], len(templates)) for example in examples]
    assert orders[0] == orders[1]
    prompts = [[templates[t].render(e.input) for t in o] for e, o in zip(examples, orders, strict=True)]
    assert prompts[0] == prompts[1]
    assert not any(answer in prompt for prompt in prompts[0] for answer in ("zebra", "Zoe"))


def test_templates_are_spread_evenly_and_follow_the_seed():
    firsts = [template_order(17, f"text {i}", 8)[0] for i in range(4000)]
    counts = [firsts.count(t) for t in range(8)]
    assert 400 < min(counts) <= max(counts) < 600
    assert firsts != [template_order(18, f"text {i}", 8)[0] for i in range(4000)]


@given(keys=st.lists(st.integers(0, 2**64 - 1), max_size=5), n=st.integers(0, 50))
def test_an_order_sorts_by_hashes_of_key_and_number(keys, n):
    expected = [sorted(range(n), key=lambda i, key=key: splitmix64(key ^ splitmix64(i))) for key in keys]
    assert orders(np.array(keys, np.uint64), n) == expected


def test_every_task_type_has_templates():
    assert set(BUILT_IN) == set(get_args(TaskType))


@pytest.mark.parametrize("kind", BUILT_IN)
def test_no_template_leans_towards_a_target(kind):
    """Labels are named all together or not at all.

    No other words of a label stand in a template.
    """
    answers = {"rating": [*"12345", "star", "five"], "sentiment": ["positive", "negative", "good", "bad", "happy"],
               "ner": ["PER", "LOC", "ORG"], "multiple-choice": ["(A)", "(B)", "A, B"]}  # fmt: skip
    for variant in BUILT_IN[kind]:
        without_places = re.sub(r"\{\w+\}", "", variant)
        assert not [answer for answer in answers.get(kind, []) if answer in without_places]
    if kind in ("rating", "sentiment"):
        assert all("{labels}" in variant for variant in BUILT_IN[kind])


@pytest.mark.parametrize("kind", BUILT_IN)
def test_templates_hold_the_input_once_and_nothing_that_t5_cannot_write(kind):
    for variant in BUILT_IN[kind]:
        assert variant.count("{input}") == 1
        assert not set(re.sub(r"\{\w+\}", "", variant)) & set(LOST_BY_T5)
        assert variant == variant.strip()


def test_labels_of_a_task_stand_in_its_templates_in_their_order():
    names = make_task(type="sentiment", label_names={"1": "angry", "2": "calm"}, templates=["{labels}: {input}"])
    assert templates_of(names)[0].render("x") == "angry, calm: x"
    default = make_task(type="sentiment", templates=["{labels}: {input}"])
    assert templates_of(default)[0].render("x") == "negative, positive: x"


def test_a_field_that_no_template_uses_is_refused():
    with pytest.raises(UsageError, match=r"fields\.tone is used by no template"):
        templates_of(make_task(fields={"tone": "formal"}))


def test_more_templates_than_a_type_has_are_refused():
    count = len(BUILT_IN["text"])
    templates_of(make_task(type="text", templatesPerExample=count))
    with pytest.raises(
        UsageError, match=f"templatesPerExample is {count + 1}, but text has {count} templates"
    ) as caught:
        templates_of(make_task(type="text", templatesPerExample=count + 1))
    assert f"at most {count}" in caught.value.hint
