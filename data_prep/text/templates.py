"""Instruction templates: those built in for each task type, and how a prompt is rendered."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_prep.config import Task
from data_prep.config.unused_settings import languages
from data_prep.tasks.labels import labels_of
from raytrain_core.errors import UsageError
from raytrain_core.hashing import content_key, orders

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

# The instruction comes first if possible: a source that is too long is truncated at its end.
BUILT_IN: dict[str, tuple[str, ...]] = {
    "summarization": (
        "Summarize the following conversation.\n\n{input}",
        "Summarize:\n{input}",
        "Write a short summary of this text.\n\n{input}\n\nSummary:",
        "Briefly say what happens here:\n\n{input}",
        "What was this conversation about?\n\n{input}\n\nAnswer in one to three sentences:",
        "Give the main points of the text below in a few words.\n\nText:\n{input}",
        "Here is a dialogue:\n{input}\n\nWrite a short summary!",
        "Read this and sum it up for someone who was not there.\n\n{input}\n\nIn short:",
        "{input}\n\nBriefly summarize that.",
        "Condense this into a brief note:\n{input}",
    ),
    "rating": (
        "How does the writer of this review rate it? Answer with one of: {labels}.\n\n{input}",
        "Review: {input}\n\nRating ({labels}):",
        "Read the review and predict its rating.\nPossible ratings: {labels}\n\nReview: {input}",
        "Which of the ratings {labels} goes with this text?\n\n{input}",
        "Rate this review. Choose from {labels}.\n{input}\nRating:",
        "Predict the score that the author gave, one of {labels}.\n\nText: {input}\n\nScore:",
        "{input}\n\nOn a scale of {labels}, what would the author say?",
        "What rating ({labels}) fits the following review?\n\n{input}",
    ),
    "sentiment": (
        "What is the sentiment of this text? Answer with one of: {labels}.\n\n{input}",
        "Text: {input}\n\nSentiment ({labels}):",
        "Read the text and say which sentiment it expresses.\nPossible answers: {labels}\n\n{input}",
        "Which of {labels} describes the attitude of the writer best?\n\n{input}",
        "Classify the sentiment. Choose from {labels}.\n{input}\nSentiment:",
        "{input}\n\nHow does the writer feel about it? Options: {labels}.",
        "Does the following express one of {labels}? Name the one that fits.\n\n{input}",
        "Sentiment analysis. Labels: {labels}.\nInput: {input}\nLabel:",
        "Decide on the tone of this message ({labels}):\n{input}",
    ),
    "ner": (
        "Find the named entities{types} in this text and write each as TYPE: text, with | between them.\n\n{input}",
        "List the named entities{types} of the text below.\n\nText: {input}\n\nEntities:",
        "Extract all named entities{types}. Answer none if there are none.\n\n{input}",
        "Which names{types} occur in this sentence? Give each with its type.\n{input}",
        "Named entity recognition{types}.\nSentence: {input}\nEntities:",
        "Read the sentence and label every entity{types} in it.\n\n{input}\n\nLabels:",
        "{input}\n\nWhat entities{types} are named here?",
        "Tag the entities{types} in order of appearance: {input}",
    ),
    "translation": (
        "Translate from {from} to {to}.\n\n{input}",
        "Translate this {from} text to {to}:\n{input}",
        "{from}: {input}\n{to}:",
        "How would you say this in {to}?\n\n{input}",
        "Here is a text in {from}:\n{input}\n\nThe same in {to}:",
        "{input}\n\nTranslate the text above to {to}.",
        "Write the following {from} sentence in {to}.\n{input}",
        "Give the {to} translation of this {from} text.\n\nText: {input}\n\nTranslation:",
    ),
    "code-translation": (
        "Translate this {from} code to {to}.\n\n{input}",
        "Convert from {from} to {to}:\n{input}",
        "Here is a function in {from}:\n{input}\n\nThe same function in {to}:",
        "Rewrite the following {from} function in {to}.\n\n{input}",
        "{from}:\n{input}\n\n{to}:",
        "How would this {from} code look in {to}?\n\n{input}",
        "Port the code below from {from} to {to}.\n{input}",
        "{from} to {to} translation.\nSource:\n{input}\nTarget:",
    ),
    "multiple-choice": (
        "{input}",
        "Answer the question by choosing an option.\n\n{input}",
        "Question: {input}\nAnswer:",
        "{input}\n\nWhich option is right?",
        "Choose the right answer.\n\n{input}\n\nAnswer:",
        "Pick the correct option:\n{input}",
        "Q: {input}\nA:",
        "Read the question, then give the correct option.\n\n{input}",
    ),
    "question-answering": (
        "{input}",
        "Answer the question.\n\n{input}",
        "Question: {input}\nAnswer:",
        "Q: {input}\nA:",
        "Give a short answer.\n\n{input}",
        "Please answer the following:\n{input}\n\nAnswer:",
        "{input}\n\nWhat is the answer?",
        "Read this and answer it as briefly as you can.\n\n{input}",
    ),
    "text": (
        "{input}",
        "Input: {input}\nOutput:",
        "{input}\n\nAnswer:",
        "Do what is asked.\n\n{input}",
        "Task: {input}\nResult:",
        "Complete the task.\n\n{input}",
        "Here is a task:\n{input}\n\nReply:",
        "{input}\nResponse:",
    ),
}


@dataclass(frozen=True, slots=True)
class Template:
    """An instruction template with its fields filled in."""

    segments: tuple[str, ...]
    """The text before, between and after the occurrences of the input."""

    def render(self, text: str) -> str:
        """Returns the prompt for `text`, which is inserted verbatim, braces included."""
        return text.join(self.segments)


def templates_of(task: Task) -> tuple[Template, ...]:
    """Returns the templates of a task, its own or those of its type.

    Raises UsageError for an invalid one.
    """
    templates = tuple(task.templates) if task.templates is not None else BUILT_IN[task.type]
    fields = fields_of(task)
    compiled = tuple(
        compile_template(template, fields, f"task {task.name}: templates[{number}]")
        for number, template in enumerate(templates)
    )
    if task.templates is None and task.templates_per_example > len(templates):
        raise UsageError(
            f"task {task.name}: templatesPerExample is {task.templates_per_example}, but {task.type} has "
            f"{len(templates)} templates",
            hint=f"Set at most {len(templates)}, or write templates of your own (templates).",
        )
    used = {name for name in task.fields if any(f"{{{name}}}" in template for template in templates)}
    if unused := [name for name in task.fields if name not in {*used, *languages(task)}]:
        raise UsageError(
            f"task {task.name}: fields.{unused[0]} is used by no template",
            hint=f"Write {{{unused[0]}}} in a template of your own (templates), or leave the field out.",
        )
    return compiled


def fields_of(task: Task) -> dict[str, str]:
    """Returns the fields that templates may use next to {input}.

    The task's own, {labels}, {types} for ner.
    """
    labels = labels_of(task)
    own = {"labels": ", ".join(labels)} if labels else {}
    if task.type == "ner":
        own["types"] = f" ({', '.join(task.labels)})" if task.labels else ""
    if "input" in task.fields:
        raise UsageError(f"task {task.name}: no field may be named input: {input} is the text of the row")
    return own | task.fields


def compile_template(template: str, fields: Mapping[str, str], where: str) -> Template:
    """Fills in `fields` and splits a template at {input}; raises UsageError for an unknown field.

    Only `{name}` with an identifier is a field; any other brace is text.
    """
    segments, current, end = [], [], 0
    for match in _FIELD.finditer(template):
        current.append(template[end : match.start()])
        end = match.end()
        name = match[1]
        if name == "input":
            segments.append("".join(current))
            current = []
        elif name in fields:
            current.append(fields[name])
        else:
            known = ", ".join("{" + name + "}" for name in ["input", *sorted(fields)])
            raise UsageError(
                f"{where}: {{{name}}} is not a known field in {template!r}",
                hint=f"Give it a value in `fields`, e.g. fields: {{{name}: ...}}; known here: {known}.",
            )
    segments.append("".join([*current, template[end:]]))
    if len(segments) == 1:
        raise UsageError(
            f"{where}: {template!r} has no {{input}}", hint="Put {input} where the text of the row belongs."
        )
    return Template(tuple(segments))


def template_order(seed: int, text: str, templates: int) -> list[int]:
    """Returns the order in which an example takes the templates.

    It depends on the input, never on the target.
    """
    return template_orders(seed, [text], templates)[0]


def template_orders(seed: int, texts: Sequence[str], templates: int) -> list[list[int]]:
    """Returns `template_order` of each text."""
    if templates < 2:
        return [[0] for _ in texts]
    import numpy as np

    return orders(np.array([content_key("wording", seed, text) for text in texts], np.uint64), templates)
