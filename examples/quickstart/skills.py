"""Pre-training data of the base model: small general skills, including those of the probes.

The skills differ from the four tasks but share words, names and sentences with them. Two dozen rows
of each task are mixed in, so that the "before" scores are weak rather than zero.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from examples.quickstart import dialogues, functions, news, reviews
from examples.quickstart.rows import PROBES, TASKS, pair
from examples.quickstart.templates import TEMPLATES


@dataclass(frozen=True)
class Lesson:
    """One pre-training row; `skill` names the skill or task it belongs to."""

    skill: str
    prompt: str
    target: str


def _render(rng: Random, templates: tuple[str, ...], text: str) -> str:
    return rng.choice(templates).replace("{input}", text)


def _probe(task: str) -> Callable[[Random], tuple[str, str]]:
    def lesson(rng: Random) -> tuple[str, str]:
        text, target = pair(task, rng, "train")
        return _render(rng, TEMPLATES[task], text), target

    return lesson


def _sentence(rng: Random) -> news.Sentence:
    return news.sentence(rng, "train")


def _some_text(rng: Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return " ".join(_sentence(rng).tokens)
    if kind == 1:
        return reviews.review(rng, "train")[0]
    if kind == 2:
        return functions.function(rng, "train")[0]
    return dialogues.dialogue(rng, "train")[0]


def _repeat(rng: Random) -> tuple[str, str]:
    words = _some_text(rng).split(" ")
    length = rng.randint(2, 9)
    start = rng.randrange(max(1, len(words) - length + 1))
    text = " ".join(words[start : start + length])
    return _render(rng, ("Repeat: {input}", "Say exactly this:\n{input}", "{input}\n\nOnce more:"), text), text


def _corruption(rng: Random) -> tuple[str, str]:
    """T5's span corruption: predict two missing spans of words."""
    words = _some_text(rng).split(" ")[:40]
    if len(words) < 8:
        words = " ".join(_sentence(rng).tokens).split(" ") * 2
    first = rng.randrange(len(words) // 2 - 2)
    second = rng.randrange(len(words) // 2, len(words) - 2)
    spans = [words[first : first + 2], words[second : second + 2]]
    middle = words[first + 2 : second]
    prompt = [*words[:first], "<extra_id_0>", *middle, "<extra_id_1>", *words[second + 2 :]]
    return " ".join(prompt), " ".join(["<extra_id_0>", *spans[0], "<extra_id_1>", *spans[1]])


def _entity(rng: Random) -> tuple[str, str]:
    kinds = {"PER": "person", "ORG": "company", "LOC": "place"}
    row = _sentence(rng)
    found = [item.split(": ", 1) for item in news.target(row).split(" | ") if ": " in item]
    text = " ".join(row.tokens)
    form = rng.randrange(3)
    if form == 0 or not found:
        return _render(rng, ("Which names are in this sentence?\n{input}", "Names only: {input}"), text), (
            ", ".join(name for _, name in found) or "none"
        )
    kind, name = rng.choice(found)
    if form == 1:
        return f"Which {kinds[kind]} is named?\n{text}", name
    return f"Is {name} a person, a company or a place?\n{text}", kinds[kind]


def _code(rng: Random) -> tuple[str, str]:
    java, python = functions.function(rng, "train")
    head = java.split("\n")[0]
    name = head.split("(")[0].split(" ")[-1]
    parameters = head.split("(")[1].split(")")[0]
    form = rng.randrange(3)
    if form == 0:
        return _render(rng, ("Name of the function?\n{input}", "What is this function called?\n{input}"), java), name
    if form == 1:
        return f"Parameters of the function?\n{java}", ", ".join(part.split()[-1] for part in parameters.split(", "))
    return f"Write in snake case: {name}", python.split("(")[0].removeprefix("def ")


def _speakers(rng: Random) -> tuple[str, str]:
    """Who speaks first, who replies, who says what.

    Often only the first lines, as the model learns this from short chats.
    """
    turns = dialogues.dialogue(rng, "train")[0].split("\n")
    turns = turns[: rng.choice((2, 2, 3, len(turns)))]
    chat = "\n".join(turns)
    lines = [line.split(": ", 1) for line in turns]
    form = rng.randrange(4)
    if form == 0:
        return _render(rng, ("Who speaks first?\n{input}", "Who begins this chat?\n{input}"), chat), lines[0][0]
    if form == 1:
        return f"Who answers?\n{chat}", lines[1][0]
    if form == 2:
        return f"Who is talking?\n{chat}", f"{lines[0][0]} and {lines[1][0]}"
    who, what = rng.choice(lines)
    return f'Who says "{what}"?\n{chat}', who


def _mood(rng: Random) -> tuple[str, str]:
    text, stars = reviews.review(rng, "train")
    while stars == "3":
        text, stars = reviews.review(rng, "train")
    return _render(rng, ("Good or bad?\n{input}", "{input}\nIs that praise or blame, good or bad?"), text), (
        "good" if stars in "45" else "bad"
    )


_SKILLS: Mapping[str, tuple[float, Callable[[Random], tuple[str, str]]]] = {
    "questions": (3.0, _probe("questions")),
    "spanish": (1.5, _probe("spanish")),
    "repeat": (2.5, _repeat),
    "entity": (2.0, _entity),
    "code": (1.5, _code),
    "speakers": (1.0, _speakers),
    "corruption": (1.0, _corruption),
    "mood": (0.7, _mood),
}
_TASK_WEIGHT = 0.5
TASK_ROWS = 24


def lessons(seed: int, count: int) -> list[Lesson]:
    """Returns `count` pre-training rows in training order, all of training combinations."""
    rng = Random(f"{seed}/lessons")
    few = [(task, *pair(task, rng, "train")) for task in TASKS for _ in range(TASK_ROWS)]
    weights = [*(weight for weight, _ in _SKILLS.values()), _TASK_WEIGHT]
    found: list[Lesson] = []
    for skill in rng.choices([*_SKILLS, "task"], weights, k=count):
        if skill == "task":
            task, text, target = rng.choice(few)
            found.append(Lesson(task, _render(rng, TEMPLATES[task], text), target))
        else:
            found.append(Lesson(skill, *_SKILLS[skill][1](rng)))
    return found


def replay(seed: int, count: int, *, with_probes: bool) -> list[Lesson]:
    """Returns `count` different rows of general skills for replay, optionally the probes' too."""
    rng = Random(f"{seed}/replay")
    skills = [skill for skill in _SKILLS if with_probes or skill not in PROBES]
    skills.remove("corruption")  # its <extra_id_0> would be plain text in a task's row
    weights = [_SKILLS[skill][0] for skill in skills]
    found: dict[str, Lesson] = {}
    while len(found) < count:
        skill = rng.choices(skills, weights)[0]
        prompt, target = _SKILLS[skill][1](rng)
        if target.strip():  # "repeat" may draw a blank text, which is no valid target
            found.setdefault(prompt, Lesson(skill, prompt, target))
    return list(found.values())
