"""Generated programs in Java, C# and Python.

Text -> ids -> text gives them back, and other losses are counted.
"""

import random

import pytest

from data_prep.prepare import PrepLimits
from data_prep.shards.reader import open_split
from data_prep.shards.text_reader import read_rows
from tests.support.data_prep_bench import make_task

NAMES = ["count", "itemList", "_value", "Total2", "is_ok", "x"]
OPERATORS = ["+", "-", "*", "/", "%", "&&", "||", "^", "&", "|", "<<", ">>", "<", ">", "<=", ">=", "==", "!="]
LITERALS = [
    "0",
    "1",
    "-42",
    "3.14e-10",
    "0xFF",
    '"{}\\n\\t"',
    "'\\\\'",
    '"a~b`c`^d"',
    "null",
    '"  two  spaces  "',
    "true",
]


def expression(rng, depth=0):
    if depth > 2 or rng.random() < 0.4:
        return rng.choice([*NAMES, *LITERALS])
    return f"({expression(rng, depth + 1)} {rng.choice(OPERATORS)} {expression(rng, depth + 1)})"


def block(rng, indent, depth, style):
    """Statements, one a line.

    `style` says how blocks begin and end, and what a statement ends with.
    """
    begin, end, semicolon = style
    lines = []
    for _ in range(rng.randint(1, 4)):
        space = indent * depth
        if depth < 4 and rng.random() < 0.4:
            head = rng.choice(["if", "while"])
            lines.append(f"{space}{head} ({expression(rng)}){begin.replace('@', space)}")
            lines += block(rng, indent, depth + 1, style)
            if end:
                lines.append(f"{space}{end}")
        else:
            comment = rng.choice(["", "", "\t// <T> ~ ^ `", "  # {x: [1]}  "])
            lines.append(f"{space}{rng.choice(NAMES)} = {expression(rng)}{semicolon}{comment}")
        if rng.random() < 0.15:
            lines.append(rng.choice(["", space, "\t" * depth]))  # blank, also with white space of its own
    return lines


def java(rng):
    body = block(rng, "    ", 2, (" {", "}", ";"))
    return "\n".join(["public class A<T extends B> {", "    int[][] f(T t) {", *body, "    }", "}"])


def csharp(rng):
    body = block(rng, "\t", 2, ("\n@{", "}", ";"))
    return "\n".join(["public class A<T> : B where T : new()", "{", "\tint[,] F(ref T t)", "\t{", *body, "\t}", "}"])


def python(rng):
    indent = rng.choice(["  ", "    ", "\t"])
    return "\n".join(["def f(x: dict[str, int] = {}) -> None:", *block(rng, indent, 1, (":", "", "")), indent + "pass"])


LANGUAGES = {"java": java, "csharp": csharp, "python": python}


@pytest.mark.parametrize("language", LANGUAGES)
def test_programs_come_back_as_they_were(tokenizer, language):
    rng = random.Random(language)
    for _ in range(200):
        text = LANGUAGES[language](rng)
        assert text.count("\n") >= 2
        (ids,) = tokenizer.encode_batch([text], 100_000)
        assert tokenizer.decode(ids) == text


def test_prepared_programs_come_back_from_their_shards(bench):
    rng = random.Random(5)
    rows = [{"input": java(rng), "target": csharp(rng)} for _ in range(30)]
    for split in ("train", "validation", "test"):
        bench.write(f"rows/{split}.jsonl", rows)
    task = make_task(
        type="code-translation",
        source={"uri": "rows"},
        fields={"from": "Java", "to": "C#"},
        templates=["{from}:\n{input}"],
    )
    shard_set = bench.prepare(task, limits=PrepLimits(20_000, 20_000))
    reader = open_split(shard_set, "notes", "train", bench.store, bench.cache)
    for row in read_rows(shard_set, "notes", "train", bench.store, bench.cache):
        source, target = reader.tokens(row.index, 0)
        assert bench.tokenizer.decode(source) == "Java:\n" + rows[row.index]["input"]
        assert bench.tokenizer.decode(target) == rows[row.index]["target"]
    statistics = shard_set.split("notes", "train").statistics
    assert (statistics["altered_inputs"], statistics["altered_targets"], statistics["unknown_tokens"]) == (0, 0, 0)


@pytest.mark.parametrize("joinable", [True, False])
def test_rows_that_lose_something_are_counted(bench, joinable):
    end = "" if joinable else " \u2026"
    rows = [{"input": f"the text {i}{end}", "target": "a"} for i in range(10)]
    rows[3] = {"input": f"a \u4e2d\u6587 text{end}", "target": "\u4e2d"}
    rows[7] = {"input": f"bell \x07 rings{end}", "target": "a"}
    for split in ("train", "validation", "test"):
        bench.write(f"rows/{split}.jsonl", rows)
    shard_set = bench.prepare(make_task(source={"uri": "rows"}))
    for split in ("train", "validation", "test"):
        statistics = shard_set.split("notes", split).statistics
        assert statistics["altered_inputs"] == (0.2 if joinable else 1)
        assert statistics["altered_targets"] == 0.1
