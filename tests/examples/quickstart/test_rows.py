"""The generated rows: reproducible, with test combinations that training never sees."""

import csv
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest

from data_prep.tasks.examples import example_maker
from data_prep.text.templates import templates_of
from examples.quickstart import lexicon, news, questions, reviews
from examples.quickstart.names import FIRST_NAMES
from examples.quickstart.rows import PROBES, SPLITS, TASKS, files
from examples.quickstart.skills import TASK_ROWS, lessons, replay
from examples.quickstart.templates import TEMPLATES
from raytrain.config.load import load_job
from tests.support import REPOSITORY

COUNTS = {"train": 600, "validation": 150, "test": 150}
JOB = REPOSITORY / "examples" / "quickstart" / "job.yaml"


@pytest.fixture(scope="module")
def rows():
    """Rows as their files hold them, by task and split."""
    found = defaultdict(dict)
    for name, content in files(17, COUNTS).items():
        task, split = name.split("/")
        text = content.decode()
        if split.endswith(".csv"):
            found[task][split.removesuffix(".csv")] = list(csv.DictReader(io.StringIO(text)))
        else:
            found[task][split.removesuffix(".jsonl")] = [json.loads(line) for line in text.splitlines()]
    return found


@pytest.fixture(scope="module")
def taught():
    return lessons(17, 4000)


@pytest.fixture(scope="module")
def tasks():
    return {task.name: task for task in load_job(JOB).job.spec.tasks}


def _sha(parts):
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def test_rows_are_reproducible():
    small = {"train": 40, "validation": 10, "test": 10}
    made = files(17, small)
    assert made == files(17, small)
    assert _sha(part for name in sorted(made) for part in (name.encode(), made[name])) == "317f9d0ec25fa653"
    assert _sha(repr(lesson).encode() for lesson in lessons(17, 400)) == "ce13b7e1dff0a5ab"
    assert files(18, small) != made


def test_tasks_have_all_splits_and_probes_have_no_training_rows(rows):
    for task in TASKS:
        assert {split: len(found) for split, found in rows[task].items()} == COUNTS
    for probe in PROBES:
        assert {split: len(found) for split, found in rows[probe].items()} == {"validation": 150, "test": 150}


def _text_of(task, row):
    return " ".join(row["tokens"]) if task == "news" else next(iter(row.values()))


def test_no_text_occurs_twice(rows):
    for task, splits in rows.items():
        texts = [_text_of(task, row) for found in splits.values() for row in found]
        assert len(texts) == len(set(texts)), task


def _combinations(task, row):
    """The pairs that are held out, read from a row as it is written, without the generator."""
    if task == "summaries":
        first, second = row["chat"].split("\n")[:2]
        return {(first.split(":")[0], second.split(":")[0])}
    if task == "reviews":
        words = set(re.findall(r"[a-z]+", row["review"]))
        return {(p, a) for p in words & set(reviews.PRODUCTS) for a in words & set(reviews.ASPECTS)}
    if task == "news":
        target = news.target(news.Sentence(tuple(row["tokens"]), tuple(row["tags"])))
        return {part.split(": ")[1] for part in target.split(" | ") if part.startswith(("PER", "ORG"))}
    if task == "functions":
        return {re.search(r"(\w+)\(", row["java"])[1]}
    if task == "questions":
        facts = row["question"].split("\n")[0].split(". ")
        values = [value for values in questions._VALUES.values() for value in values]
        return {
            (name, value)
            for fact in facts
            for name in FIRST_NAMES
            for value in values
            if re.search(rf"\b{name}\b", fact) and re.search(rf"\b{value}\b", re.sub(r"(last|since) \w+day", "", fact))
        }
    return {tuple(row["english"].split()[1:])}


@pytest.mark.parametrize("task", [*TASKS, *PROBES])
def test_combinations_of_one_split_occur_in_no_other(rows, task):
    found = {split: set().union(*(_combinations(task, row) for row in rows[task][split])) for split in rows[task]}
    assert all(len(pairs) > 10 for pairs in found.values())
    for one, two in combinations(found, 2):
        assert not found[one] & found[two]


def test_pretraining_contains_no_held_out_combination(rows, taught):
    """Neither lessons nor replay contain a person, company, function or phrase of the test rows."""
    rehearsed = [*replay(17, 500, with_probes=True), *replay(17, 500, with_probes=False)]
    text = "\n".join(f"{lesson.prompt}\n{lesson.target}" for lesson in [*taught, *rehearsed])
    phrases = "\n".join(lesson.prompt for lesson in [*taught, *rehearsed] if lesson.skill == "spanish")
    for split in ("validation", "test"):
        for task in ("news", "functions"):
            for words in set().union(*(_combinations(task, row) for row in rows[task][split])):
                assert not re.search(rf"\b{words}\b", text), words
        for row in rows["spanish"][split]:
            assert " ".join(row["english"].split()[1:]) not in phrases
    known = {pair for lesson in taught if lesson.skill == "questions" for pair in _facts(lesson.prompt)}
    for split in ("validation", "test"):
        assert not known & {pair for row in rows["questions"][split] for pair in _facts(row["question"])}


def _facts(text):
    """(name, value) of the sentences of a question's text that name a value after their verb."""
    return set(
        re.findall(
            r"\b(?!Who)(\w+) (?:went to|has lived in|bought|found|works for|will come back on) ((?:an? )?\w+)", text
        )
    )


def test_every_replay_row_has_input_and_target():
    rows = replay(17, 3000, with_probes=False)
    assert len(rows) == 3000
    assert all(row.prompt.strip() and row.target.strip() for row in rows)


def test_replay_without_probes_contains_none_of_their_rows(taught):
    kept = replay(17, 400, with_probes=False)
    assert {lesson.skill for lesson in kept}.isdisjoint(PROBES)
    assert set(PROBES) <= {lesson.skill for lesson in replay(17, 400, with_probes=True)}
    assert not any("<extra_id" in lesson.prompt for lesson in kept)


def test_the_base_model_sees_few_rows_of_the_tasks(taught):
    for task in TASKS:
        targets = {lesson.target for lesson in taught if lesson.skill == task}
        assert 1 <= len(targets) <= TASK_ROWS


def test_no_template_reveals_the_target(taught):
    """Where few answers are possible, each comes about equally often with every wording."""
    by_opening = defaultdict(Counter)
    for lesson in lessons(18, 60_000):
        if lesson.skill == "mood":
            by_opening[lesson.prompt.startswith("Good or bad?")][lesson.target] += 1
    assert sum(sum(counts.values()) for counts in by_opening.values()) > 2000
    for counts in by_opening.values():
        assert abs(counts["good"] / counts.total() - 0.5) < 0.05
    for templates in TEMPLATES.values():
        assert len(set(templates)) >= 5
        assert all(template.count("{input}") == 1 for template in templates)


def test_stars_are_evenly_distributed(rows):
    for split in SPLITS:
        counts = Counter(row["stars"] for row in rows["reviews"][split])
        assert set(counts) == set("12345")
        assert max(counts.values()) / counts.total() < 0.32


def test_the_job_has_the_templates_of_the_base_model(tasks):
    assert set(tasks) == set(TEMPLATES) == {*TASKS, *PROBES}
    for name, task in tasks.items():
        assert tuple(task.templates) == TEMPLATES[name]
        assert task.probe == (name in PROBES)
        rendered = [template.render("some {x} text") for template in templates_of(task)]
        assert rendered == [template.replace("{input}", "some {x} text") for template in TEMPLATES[name]]


@pytest.mark.parametrize("task", [*TASKS, *PROBES])
def test_rows_have_the_columns_that_the_job_declares(rows, tasks, task):
    make = example_maker(tasks[task])
    for split, found in rows[task].items():
        for row in found:
            example = make(row)
            assert example.input == _text_of(task, row), split
            if task == "news":
                sentence = news.Sentence(tuple(row["tokens"]), tuple(row["tags"]))
                assert example.targets == [news.target(sentence)]
            else:
                assert example.targets == [list(row.values())[1]]


def test_python_functions_compile_and_have_the_java_parameters(rows):
    for row in rows["functions"]["train"]:
        compile(row["python"], "row", "exec")
        java = re.search(r"\((.*?)\) \{", row["java"])[1]
        assert re.search(r"\((.*?)\):", row["python"])[1] == ", ".join(p.split()[-1] for p in java.split(", "))


def test_spanish_adjectives_agree_with_their_noun():
    for article_and_noun in lexicon._NOUNS.values():
        assert article_and_noun.split()[0] in ("el", "la")
    assert all(word.endswith("o") for word in lexicon._ADJECTIVES.values())
