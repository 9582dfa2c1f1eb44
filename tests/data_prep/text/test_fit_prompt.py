"""A prompt that is too long is cut in its input: instruction and options stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.prepare import PrepLimits
from data_prep.shards.text_reader import read_rows
from data_prep.text.fit_prompt import ends_with_input, fit_prompt
from data_prep.text.templates import Template
from tests.support.data_prep_bench import make_task

LONG = "the text of a review " * 40


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "\n\nBriefly summarize that."),
        ("Review: ", "\n\nRating (1, 2):"),
        ('Read "', '" and say (1, 2).'),
        ("(", ")"),
    ],
)
@pytest.mark.parametrize("text", [LONG, LONG.replace(" ", "\n"), "Größe λ 漢字 \t" * 60, "x" * 900])
def test_the_instruction_stays_and_the_limit_holds(tokenizer, before, after, text):
    prompt = fit_prompt(tokenizer, Template((before, after)), text, 120)
    assert prompt is not None
    assert prompt.startswith(before)
    assert prompt.endswith(after)
    kept = prompt[len(before) : len(prompt) - len(after)]
    assert text.startswith(kept)
    assert 100 <= len(tokenizer.encode_open([prompt])[0]) + 1 <= 120


@given(words=st.lists(st.text(max_size=9), max_size=80), limit=st.integers(60, 200), tail=st.integers(0, 20))
def test_whatever_the_text_is(tokenizer, words, limit, tail):
    text = " ".join(words)
    prompt = fit_prompt(tokenizer, Template(("Say: ", "\nnow")), text, limit, min(tail, len(text)))
    if prompt is not None:
        assert len(tokenizer.encode_open([prompt])[0]) < limit
        assert prompt.startswith("Say: ")
        assert prompt.endswith(text[len(text) - min(tail, len(text)) :] + "\nnow")


def test_an_input_that_occurs_twice_is_cut_twice(tokenizer):
    prompt = fit_prompt(tokenizer, Template(("", "\nagain: ", "\nend")), LONG, 150)
    first, second = prompt.removesuffix("\nend").split("\nagain: ")
    assert first == second
    assert LONG.startswith(first)


def test_no_room_for_any_input_is_none(tokenizer):
    assert fit_prompt(tokenizer, Template(("", "z" * 200)), "text", 100) is None
    assert ends_with_input(Template(("Say: ", "")), 0)
    assert not ends_with_input(Template(("Say: ", "")), 9)
    assert not ends_with_input(Template(("", "?")), 0)


def stored(bench, task, limit):
    shard_set = bench.prepare(task, limits=PrepLimits(limit, 16))
    rows = [
        row
        for split in ("train", "validation", "test")
        for row in read_rows(shard_set, "notes", split, bench.store, bench.cache)
    ]
    return shard_set.task("notes").tally["kinds"], rows


def test_long_inputs_lose_their_end_and_never_the_instruction(bench):
    bench.write("rows.jsonl", [{"input": f"{i} {LONG}", "target": "a"} for i in range(60)])
    ends = ["\n\nBriefly summarize that.", "\n\nIn short:"]
    task = make_task(templates=[f"{{input}}{end}" for end in ends], templatesPerExample=2)
    kinds, rows = stored(bench, task, 120)
    assert all(row.input.endswith(tuple(ends)) for row in rows)
    assert (kinds["input-cut"]["count"], "prompt-cut" in kinds) == (60, False)


def test_options_are_never_cut(bench):
    options = ["a text", "the summary", "if"]
    rows = [{"q": f"{i} {LONG}", "a": options[i % 3], "options": options} for i in range(60)]
    bench.write("rows.jsonl", rows)
    columns = {"input": "q", "target": "a", "choices": "options"}
    kinds, rows = stored(bench, make_task(type="multiple-choice", columns=columns), 160)
    assert all("\nOptions:\n(A) a text\n(B) the summary\n(C) if" in row.input for row in rows)
    assert kinds["input-cut"]["count"] == 60


def test_options_that_are_too_long_alone_are_told(bench):
    options = [LONG, f"the {LONG}"]
    bench.write("rows.jsonl", [{"q": f"text {i}", "a": "A", "options": options} for i in range(60)])
    columns = {"input": "q", "target": "a", "choices": "options"}
    kinds, _ = stored(bench, make_task(type="multiple-choice", columns=columns), 160)
    assert kinds["prompt-cut"]["count"] == 60


def test_options_inside_the_input_are_never_cut(bench):
    """As BIG-Bench Hard writes them."""
    ending = "\nOptions:\n- Yes\n- No"
    bench.write("rows.jsonl", [{"input": f"{i} {LONG}{ending}", "target": "Yes"} for i in range(60)])
    _, rows = stored(bench, make_task(type="question-answering"), 160)
    assert all(ending in row.input for row in rows)
