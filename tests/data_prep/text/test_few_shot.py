import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.shards.settings import PrepLimits
from data_prep.shards.text_reader import read_rows
from data_prep.text import few_shot as shots
from data_prep.text.few_shot import Shot, ShotPool, Shots
from data_prep.text.templates import Template
from tests.support.data_prep_bench import LIMITS, make_task, numbered

PLAIN = Template(("Say it.\n", ""))


def pool_of(rows, seed=17):
    pool = ShotPool(seed)
    for text, answer in rows:
        pool.add(text, answer)
    return pool.shots()


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), max_size=40), st.randoms())
def test_a_pool_does_not_depend_on_the_order_of_reading(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    before, shots.POOL = shots.POOL, 5
    try:
        found = pool_of(rows)
        assert found == pool_of(shuffled) == pool_of(rows + rows)
    finally:
        shots.POOL = before
    assert len(found) == min(5, len(set(rows)))
    assert set(found) <= {Shot(*row) for row in rows}


def test_the_share_is_kept_and_follows_the_seed():
    pool = pool_of((f"shot {i}", "yes") for i in range(50))
    few = Shots(pool, 0.1, 2, 17)
    chosen = [bool(few.shots_of(f"text {i}", 0)) for i in range(10_000)]
    assert 900 < sum(chosen) < 1100
    assert chosen != [bool(few.shots_of(f"text {i}", 1)) for i in range(10_000)]
    assert chosen != [bool(Shots(pool, 0.1, 2, 18).shots_of(f"text {i}", 0)) for i in range(10_000)]
    used = {shot.input for i in range(10_000) for shot in few.shots_of(f"text {i}", 0)}
    assert len(used) == 50


def test_never_the_row_itself_whatever_its_answer():
    pool = pool_of((f"text {i % 3}", f"answer {i}") for i in range(9))
    few = Shots(pool, 1.0, 4, 17)
    for i in range(3):
        inputs = [shot.input for shot in few.shots_of(f"text {i}", 0)]
        assert len(inputs) == 4
        assert f"text {i}" not in inputs
    assert Shots(pool_of([("text 0", "a")]), 1.0, 4, 17).shots_of("text 0", 0) == []
    assert Shots((), 1.0, 4, 17).shots_of("text 0", 0) == []


def test_as_many_shots_as_fit(tokenizer):
    pool = pool_of((f"text number {i}", "is") for i in range(20))
    few = Shots(pool, 1.0, 3, 17)
    (longest,) = tokenizer.encode_open([few.prompts(["the text"], [PLAIN], 0, tokenizer, 10_000)[0]])
    counts = []
    for limit in range(1, len(longest) + 3):
        found = few.prompts(["the text"], [PLAIN], 0, tokenizer, limit)
        if 0 not in found:
            counts.append(0)
            continue
        assert tokenizer.encode_counted([found[0]], limit).truncated == 0
        assert found[0].endswith("\n\nSay it.\nthe text")
        counts.append(found[0].count("Say it.") - 1)
    assert counts == sorted(counts)
    assert [value for value, _ in itertools.groupby(counts)] == [0, 1, 2, 3]
    assert counts[len(longest)] == 3  # limit len + 1: the prompt and EOS


def prompts(bench, shard_set, split):
    return [row.input for row in read_rows(shard_set, "notes", split, bench.store, bench.cache)]


@pytest.fixture
def rows(bench):
    for split, start in (("train", 0), ("validation", 1000), ("test", 2000)):
        bench.write(f"rows/{split}.jsonl", numbered(60, start))
    return {"source": {"uri": "rows"}, "templates": ["Say it: {input}"], "templates_per_example": 1}


def test_only_training_prompts_get_shots_and_only_training_rows_are_shots(bench, rows):
    task = make_task(**rows, few_shot={"share": 0.5, "examples": 2}, target_format="= {target}")
    shard_set = bench.prepare(task, limits=PrepLimits(400, 40))
    train = prompts(bench, shard_set, "train")
    shown = [prompt.split("\n\n") for prompt in train if "\n\n" in prompt]
    assert 15 < len(shown) < 45
    statistics = {split: shard_set.split("notes", split).statistics["few_shot"] for split in ("train", "test")}
    assert statistics == {"train": pytest.approx(len(shown) / len(train), abs=1e-5), "test": 0}
    answers = {f"Say it: {row['input']}\n= {row['target']}" for row in numbered(60)}
    for *examples, own in shown:
        assert len(examples) == 2
        assert set(examples) <= answers
        assert not any(example.startswith(f"{own}\n") for example in examples)
    for split in ("validation", "test"):
        assert not any("\n\n" in prompt for prompt in prompts(bench, shard_set, split))
    texts, tokens = read_tokens(bench, shard_set)
    encoded = bench.tokenizer.encode_counted(texts, 400)
    assert [ids.tolist() for ids in encoded.ids] == tokens


def read_tokens(bench, shard_set):
    from data_prep.shards.reader import open_split

    reader = open_split(shard_set, "notes", "train", bench.store, bench.cache)
    return prompts(bench, shard_set, "train"), [reader.tokens(i, 0)[0].tolist() for i in range(reader.examples)]


def test_prompts_do_not_depend_on_the_order_of_the_rows(bench, rows):
    task = make_task(**rows, few_shot={"share": 0.5})
    first = prompts(bench, bench.prepare(task, limits=PrepLimits(400, 40)), "train")
    shuffled = numbered(60)
    random.Random(3).shuffle(shuffled)
    bench.write("rows/train.jsonl", shuffled)
    second = prompts(bench, bench.prepare(task, limits=PrepLimits(400, 40)), "train")
    assert first != second
    assert sorted(first) == sorted(second)


def test_shots_come_from_the_rows_under_the_limit(bench, rows):
    task = make_task(**rows, limit=10, few_shot={"share": 1.0})
    train = prompts(bench, bench.prepare(task, limits=PrepLimits(400, 40)), "train")
    own = {prompt.split("\n\n")[-1] for prompt in train}
    used = {example.split("\n")[0] for prompt in train for example in prompt.split("\n\n")[:-1]}
    assert len(own) == 10
    assert used <= own


def test_nothing_is_cut_because_of_shots(bench, rows):
    plain = bench.prepare(make_task(**rows), limits=LIMITS)
    few = bench.prepare(make_task(**rows, few_shot={"share": 1.0, "examples": 8}), limits=LIMITS)
    assert few.digest != plain.digest
    statistics = [found.split("notes", "train").statistics for found in (plain, few)]
    assert statistics[0]["truncated_sources"] == statistics[1]["truncated_sources"] == 0
    assert statistics[0]["source_tokens"]["p50"] < statistics[1]["source_tokens"]["p50"]


def test_a_probe_has_no_shots():
    with pytest.raises(ValidationError, match="a probe has no training rows"):
        make_task(probe=True, few_shot={})
