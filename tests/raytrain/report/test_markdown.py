from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from raytrain.report import gather, render_html, render_markdown
from raytrain.report.markdown_readings import confusion_table
from raytrain.report.markdown_text import escape, fence
from raytrain.report.model import Confusion


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
        "What answers were read as",
        "By template, length and label",
        "Data",
        "Run",
    ]


def test_slices_by_template_length_and_label_exist(parsed):
    cells = [t.content for t in parsed if t.type == "inline"]
    for part in ("template 1", "prompt tokens 4-30", "prompt tokens 31-96", "label 5"):
        assert part in cells


def test_what_answers_were_read_as_has_its_tables(run_folder):
    text = render_markdown(gather(run_folder.store, run_folder.layout))
    assert "| reviews: correct label, read as | 1 | 2 | 3 | 4 | 5 | no label |" in text
    task = next(t for t in gather(run_folder.store, run_folder.layout).tasks if t.confusion)
    first = " | ".join(f"{count}" if count else "·" for count in task.confusion.counts[0])
    assert f"| 1 | {first} |" in text
    assert "| LOC | 96.8 | 46.9 | 63.2 | 30 | 31 | 64 |" in text
    assert "| not an entity | 0.0 | – | 0.0 | 0 | 3 | 0 |" in text


def test_of_many_labels_the_largest_mistakes_are_listed():
    labels = [f"label {i}" for i in range(12)]
    counts = [[9 if i == j else 0 for j in range(13)] for i in range(12)]
    counts[3][5], counts[4][12] = 7, 2
    lines = confusion_table("a|b", Confusion(labels=labels, counts=counts)).splitlines()
    assert lines[0] == r"| a\|b: largest mistakes of 12 labels, correct | read as | rows |"
    assert lines[2:] == ["| label 3 | label 5 | 7 |", "| label 4 | no label | 2 |"]


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


def test_what_happened_to_the_rows_is_a_folded_table_with_the_first_places(run_folder):
    data = gather(run_folder.store, run_folder.layout)
    text = render_markdown(data)
    folded = text.split("What happened to the rows, from the files to the model</summary>")[1].split("</details>")[0]
    assert "bad rows skipped | lost | 1 |" in folded
    assert "is empty" in folded
    page = render_html(data)
    assert "What happened to the rows, from the files to the model</summary>" in page
    assert "rows.jsonl:1: &#39;input&#39; is empty" in page
