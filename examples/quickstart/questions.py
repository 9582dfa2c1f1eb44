"""Questions about one or two facts: the first probe.

The base model is pre-trained on them; fine-tuning does not see them.
"""

from collections.abc import Mapping
from random import Random

from examples.quickstart.names import CITIES, COMPANY_STEMS, DAYS, FIRST_NAMES, Split, draw_pair

_THINGS = (
    "bread",
    "flowers",
    "a bicycle",
    "a book",
    "a lamp",
    "a radio",
    "shoes",
    "cheese",
    "a map",
    "apples",
    "a coat",
)

# What a name is paired with. A pair is held out for every kind of fact: if it is a test pair,
# training never sees Yuki together with Bristol.
_VALUES = {"place": CITIES, "thing": _THINGS, "employer": COMPANY_STEMS, "day": DAYS}
# Kind of fact -> kind of pair, sentence, and question for the second element of the pair.
_FACTS: Mapping[str, tuple[str, str, str]] = {
    "went": ("place", "{name} went to {value} last {day}.", "Where did {name} go?"),
    "lives": ("place", "{name} has lived in {value} since {day}.", "Where does {name} live?"),
    "bought": ("thing", "{name} bought {value} at the market.", "What did {name} buy?"),
    "found": ("thing", "In the attic {name} found {value}.", "What did {name} find?"),
    "works": ("employer", "{name} works for {value} in the town.", "For whom does {name} work?"),
    "comes": ("day", "{name} will come back on {value}.", "When will {name} come back?"),
    "called": ("day", "{name} called the office on {value}.", "When did {name} call?"),
}
_WHO = {
    "went": "Who went to {value}?",
    "lives": "Who lives in {value}?",
    "bought": "Who bought {value}?",
    "found": "Who found {value}?",
    "works": "Who works for {value}?",
}


def question(rng: Random, split: Split) -> tuple[str, str]:
    """Returns one or two sentences with a question on the next line, and its answer.

    Every (name, value) belongs to `split`.
    """
    kinds = rng.sample(sorted(_FACTS), rng.choice((1, 2, 2)))
    facts: list[tuple[str, str, str]] = []
    for kind in kinds:
        pair = _FACTS[kind][0]
        name, value = draw_pair(rng, split, pair, FIRST_NAMES, _VALUES[pair])
        while any(name == n or value == v for _, n, v in facts):
            name, value = draw_pair(rng, split, pair, FIRST_NAMES, _VALUES[pair])
        facts.append((kind, name, value))
    text = " ".join(_FACTS[k][1].format(name=n, value=v, day=rng.choice(DAYS)) for k, n, v in facts)
    kind, name, value = rng.choice(facts)
    if kind in _WHO and rng.random() < 0.4:
        return f"{text}\n{_WHO[kind].format(value=value)}", name
    return f"{text}\n{_FACTS[kind][2].format(name=name)}", value
