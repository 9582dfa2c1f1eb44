"""One-sentence news as tokens with BIO tags; a few have no entity."""

from dataclasses import dataclass
from random import Random

from examples.quickstart.names import CITIES, DAYS, MONTHS, Split, company, draw_pair, person

# {PER}, {ORG} and {LOC} become entities. A sentence has at most one of each kind: the small model
# cannot tell two of a kind apart, as T5's cross-attention has no position term.
_SENTENCES = (
    "{PER} works for {ORG} in {LOC} .",
    "{ORG} will open a new office in {LOC} in {month} .",
    "After the match in {LOC} , {PER} signed for another club .",
    "{PER} , who founded {ORG} , retired on {day} .",
    "Shares of {ORG} fell on {day} .",
    "The mayor of {LOC} met {PER} on {day} .",
    "{PER} was born in {LOC} .",
    "Police in {LOC} are looking for {PER} .",
    "{ORG} has named {PER} as its new director .",
    "In {month} , {PER} will leave {ORG} .",
    "A strike at {ORG} stopped all trains to {LOC} .",
    "Workers of {ORG} in {LOC} went on strike on {day} .",
    "{PER} won the marathon in {LOC} on {day} .",
    "The judge fined {ORG} because of false invoices .",
    "{ORG} , one of the oldest firms in {LOC} , was sold in {month} .",
    '" We are hiring , " said {PER} of {ORG} .',
    "{PER} will sing in {LOC} next {day} .",
    "A painting by {PER} was stolen from a museum in {LOC} .",
    "According to {PER} , the bridge in {LOC} is safe .",
    "{ORG} lost a case against {PER} .",
    "Nobody at {ORG} wanted to speak about {PER} .",
    "Since {month} , {ORG} has hired two hundred people .",
    "{PER} told reporters that the talks would go on .",
    "On {day} , {PER} presented the plans of {ORG} in {LOC} .",
)
_PLAIN_SUBJECTS = (
    *("The match", "The concert", "The meeting", "The vote", "The flight", "The race", "The trial", "The parade"),
    *("The strike", "The exhibition", "The festival", "The sale"),
)
_PLAIN_EVENTS = (
    *("was moved to {day} because of heavy rain", "was cancelled in the last minute", "will begin later than planned"),
    *("ended without a result", "drew more visitors than in {month}", "has been put off until {month}"),
    *("was the longest in ten years", "took place without any trouble"),
)
_PLAIN_SHARE = 0.1


@dataclass(frozen=True)
class Sentence:
    """Tokens and their BIO tags, of equal length."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def sentence(rng: Random, split: Split) -> Sentence:
    """Returns a news sentence made of pairs that belong to `split`.

    The pairs are those of a person's names, of a company's words and of (first name, city), whether
    or not the sentence mentions them; without entities, the pair of subject and event.
    """
    slots = {"day": rng.choice(DAYS), "month": rng.choice(MONTHS)}
    if rng.random() < _PLAIN_SHARE:
        subject, event = draw_pair(rng, split, "event", _PLAIN_SUBJECTS, _PLAIN_EVENTS)
        words = f"{subject} {event} .".format(**slots).split()
        return Sentence(tuple(words), ("O",) * len(words))
    entities = {"PER": person(rng, split), "ORG": company(rng, split)}
    entities["LOC"] = draw_pair(rng, split, "place", [entities["PER"].split()[0]], CITIES)[1]
    tokens: list[str] = []
    tags: list[str] = []
    for word in rng.choice(_SENTENCES).split():
        kind = word.strip("{}")
        if kind in entities:
            parts = entities[kind].split()
            tokens += parts
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (len(parts) - 1)
        else:
            tokens.append(word.format(**slots))
            tags.append("O")
    return Sentence(tuple(tokens), tuple(tags))


def target(row: Sentence) -> str:
    """Returns the entities in order, as in `PER: Emma Patel | LOC: Delhi`, or `none`."""
    found: list[list[str]] = []
    for token, tag in zip(row.tokens, row.tags, strict=True):
        if tag.startswith("B-"):
            found.append([f"{tag[2:]}: {token}"])
        elif tag.startswith("I-"):
            found[-1].append(token)
    return " | ".join(" ".join(words) for words in found) or "none"
