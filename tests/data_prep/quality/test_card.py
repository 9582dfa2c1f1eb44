"""The data card says what was done to the rows."""

from data_prep.config import Mixture
from data_prep.quality.card import card
from tests.support.data_prep_bench import make_task, numbered


def lines_of(bench, *tasks, **options):
    shard_set = bench.prepare(*tasks, **options)
    return card(shard_set, title="it", tasks={task.name: task for task in tasks}).splitlines()


def test_filters_masks_and_shots_are_listed(bench):
    rows = numbered(120)
    rows[3]["input"] += " write to ann@example.org"
    bench.write("rows.jsonl", [row | {"lang": "en" if i % 4 else "de"} for i, row in enumerate(rows)])
    task = make_task(
        where='lang == "en"', limit=50, mask={"kinds": ["email"]}, fewShot={"share": 0.25, "examples": 2},
        target_format="It is {target}", source={"uri": "rows.jsonl", "licence": "CC0 | mine"},
    )  # fmt: skip
    lines = lines_of(bench, task)
    assert '- only rows where `lang == "en"`' in lines
    assert "- at most 50 rows of each split, chosen by a keyed hash" in lines
    assert "- targets are written as `It is {target}`" in lines
    assert "- 25% of the training prompts show up to 2 other training rows" in lines
    assert "- personal data replaced by placeholders" in lines
    assert "- rows left out by where: 30 (rows.jsonl:1; rows.jsonl:5; rows.jsonl:9)" in lines
    assert any(line.startswith("- rows left out by limit: ") for line in lines)
    assert "- columns: input from `input`, target from `target`" in lines
    assert "Source: `rows.jsonl`. Licence: CC0 \\| mine." in lines


def test_only_what_was_done_is_listed(bench):
    bench.write("rows.jsonl", numbered(60))
    text = "\n".join(lines_of(bench, make_task()))
    for word in ("where", "at most 5", "placeholders", "training prompts", "written"):
        assert word not in text
    assert "Licence: not stated" in text


def test_the_mixture_is_listed(bench):
    for name in "abc":
        bench.write(f"{name}.jsonl", numbered(60, 1000 * ord(name)))
    tasks = [make_task(name=name, source={"uri": f"{name}.jsonl"}) for name in "abc"]
    groups = [{"name": "one", "rate": 3, "tasks": ["a"]}, {"name": "two", "rate": 1, "tasks": ["b"], "cap": 10}]
    mixture = Mixture.model_validate({"groups": groups, "replay": {"share": 0.2, "tasks": ["c"]}})
    assert (
        "- Mixture: group one at rate 3 (proportional); group two at rate 1 (proportional, counting at most 10 "
        "examples of a task); 20% replayed from c (proportional); seed 17." in lines_of(bench, *tasks, mixture=mixture)
    )
