import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.text.prompts import PromptEncoder
from data_prep.text.templates import BUILT_IN, Template, templates_of
from tests.support.data_prep_bench import make_task


def task_of(kind):
    """A task of that type; translation needs the names of two languages."""
    return make_task(type=kind, fields={"from": "Java", "to": "C#"} if kind.endswith("translation") else {})


TEMPLATES = [
    *(t for kind in BUILT_IN for t in templates_of(task_of(kind))),
    Template(("", "")),
    Template(("  ", "  end")),
    Template(("say\t", "\tso")),
    Template(("(", ")")),  # no white space: must be tokenised as a whole
    Template(("a ", " b ", "\n")),  # twice
    Template(("</", ">")),
]
characters = [
    *"ab c{}()<>/s\n\t",
    "  ",
    "</s>",
    "the",
    "\u0301",
    "\u00e9",
    "\u4e2d",
    "\U0001f642",
    "\u200d",
    "\ufb01",
    "\u00a0",
]
inputs = st.lists(st.sampled_from(characters), min_size=1, max_size=12).map("".join)


@given(texts=st.lists(inputs, min_size=1, max_size=6), limit=st.sampled_from([1, 2, 7, 500]))
@settings(max_examples=100)
def test_joined_ids_are_those_of_the_whole_prompt(tokenizer, texts, limit):
    encoder = PromptEncoder(tokenizer, TEMPLATES, texts)
    for start in range(len(TEMPLATES)):
        chosen = [(start + i) % len(TEMPLATES) for i in range(len(texts))]
        prompts = [TEMPLATES[t].render(text) for t, text in zip(chosen, texts, strict=True)]
        joined = encoder.encode(prompts, chosen, limit)
        whole = tokenizer.encode_counted(prompts, limit)
        assert [ids.tolist() for ids in joined.ids] == [ids.tolist() for ids in whole.ids]
        assert joined.lengths.tolist() == whole.lengths.tolist()
        assert (joined.truncated, joined.unknown) == (whole.truncated, whole.unknown)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_almost_every_built_in_template_avoids_tokenising_again(tokenizer, kind):
    task = task_of(kind)
    templates = templates_of(task)
    encoder = PromptEncoder(tokenizer, templates, ["some text"])
    prompts = [template.render("some text") for template in templates]
    tokenised = []
    tokenizer_calls = tokenizer.encode_open

    class Spy:
        unknown = tokenizer.unknown

        def encode_open(self, texts):
            tokenised.extend(texts)
            return tokenizer_calls(texts)

    encoder._tokenizer = Spy()
    for number, prompt in enumerate(prompts):
        encoder.encode([prompt], [number], 500)
    assert tokenised == []
