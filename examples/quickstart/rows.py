"""The rows of every task and split, in the file formats of the world."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from random import Random
from typing import TypeVar

from examples.quickstart import dialogues, functions, lexicon, news, questions, reviews
from examples.quickstart.names import Split

T = TypeVar("T")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASKS = ("summaries", "reviews", "news", "functions")
PROBES = ("questions", "spanish")
_PAIRS: Mapping[str, Callable[[Random, Split], tuple[str, str]]] = {
    "summaries": dialogues.dialogue,
    "reviews": reviews.review,
    "functions": functions.function,
    "questions": questions.question,
    "spanish": lexicon.phrase,
}
_COLUMNS = {
    "summaries": ("chat", "note"),
    "reviews": ("review", "stars"),
    "functions": ("java", "python"),
    "questions": ("question", "answer"),
    "spanish": ("english", "spanish"),
}


def pair(task: str, rng: Random, split: Split) -> tuple[str, str]:
    """Returns input and target of one row of a task, as text."""
    if task == "news":
        row = news.sentence(rng, split)
        return _sentence_text(row), news.target(row)
    return _PAIRS[task](rng, split)


def distinct(draw: Callable[[], T], key: Callable[[T], str], count: int, seen: set[str]) -> list[T]:
    """Returns `count` draws with new keys, and adds the keys to `seen`.

    Raises ValueError if the generator has too few different rows.
    """
    found: list[T] = []
    for _ in range(count * 50):
        row = draw()
        if key(row) not in seen:
            seen.add(key(row))
            found.append(row)
            if len(found) == count:
                return found
    raise ValueError(f"the generator cannot draw {count} different rows")


def files(seed: int, counts: Mapping[Split, int]) -> dict[str, bytes]:
    """Returns the content of every file of rows by its path, with `counts` rows in each split.

    Reviews are CSV, all others JSON Lines; news have tokens and tags. Probes have no training rows.
    """
    out: dict[str, bytes] = {}
    for task in TASKS + PROBES:
        seen: set[str] = set()
        for split in SPLITS:
            if task in PROBES and split == "train":
                continue
            rng = Random(f"{seed}/{task}/{split}")
            if task == "news":
                sentences = distinct(partial(news.sentence, rng, split), _sentence_text, counts[split], seen)
                out[f"{task}/{split}.jsonl"] = _jsonl({"tokens": row.tokens, "tags": row.tags} for row in sentences)
                continue
            rows = distinct(partial(_PAIRS[task], rng, split), itemgetter(0), counts[split], seen)
            if task == "reviews":
                out[f"{task}/{split}.csv"] = _csv(_COLUMNS[task], rows)
            else:
                out[f"{task}/{split}.jsonl"] = _jsonl(dict(zip(_COLUMNS[task], row, strict=True)) for row in rows)
    return out


def _sentence_text(row: news.Sentence) -> str:
    return " ".join(row.tokens)


def _jsonl(rows: Iterable[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _csv(header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
