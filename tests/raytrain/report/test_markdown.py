from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from raytrain.report import gather, render_markdown
from raytrain.report.markdown import escape, fence


def tokens(text):
    flat = []
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        flat += [token, *(token.children or [])]
    return flat


@pytest.fixture(scope="module")
def parsed(run_folder):
    return tokens(render_markdown(gather(run_folder.store, run_folder.layout)))


def test_hostile_answers_stay_in_their_fences(hostile_data, hostile_texts):
    parsed = tokens("".join(render_markdown(one_sample(hostile_data, number)) for number in range(len(hostile_texts))))
    html = [t.content.strip() for t in parsed if t.type in ("html_block", "html_inline")]
    assert all(h.startswith(("<details>", "</details>")) for h in html)
    assert not any("pwned" in h for h in html)
    assert not any(t.type in ("link_open", "image") for t in parsed)
    fenced = "".join(t.content for t in parsed if t.type == "fence")
    assert "<script>window.pwned = 1</script>" in fenced


def one_sample(data, number):
    """The report with only the sample of that number: Markdown shows few of each task."""
    tasks = [t.model_copy(update={"samples": t.samples[number : number + 1]}) for t in data.tasks]
    return data.model_copy(update={"tasks": tasks})


def test_headings_are_those_of_the_report(parsed):
    headings = [b.content for a, b in pairwise(parsed) if a.type == "heading_open"]
    assert headings == [
        "support-assistant: fine-tuning report",
        "What training changed",
        "What was kept or forgotten",
        "Checkpoints",
        "Samples",
        "Every metric",
        "By template, length and label",
        "Data",
        "Run",
    ]


def test_slices_by_template_length_and_label_exist(parsed):
    cells = [t.content for t in parsed if t.type == "inline"]
    for part in ("template 1", "prompt tokens 4-30", "prompt tokens 31-96", "label 5"):
        assert part in cells


def test_every_task_has_its_row(parsed):
    cells = [t.content for t in parsed if t.type == "inline"]
    assert "**dialogues** (summarization)" in cells
    assert "mostly forgotten" in cells or "partly forgotten" in cells


@pytest.mark.parametrize(
    "text", ["<b>x</b>", "a | b", "[x](javascript:y)", "# h", "`code`", "@someone", "*x* _y_ ~z~", "1. a\n2. b"]
)
def test_escaped_text_is_only_text(text):
    found = tokens(f"x {escape(text)}")
    assert {t.type for t in found} <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


def test_a_fence_is_longer_than_what_it_holds():
    found = [t for t in tokens(fence("``` \n````\ntext")) if t.type == "fence"]
    assert len(found) == 1
    assert found[0].content == "``` \n````\ntext\n"
