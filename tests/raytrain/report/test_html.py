import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from raytrain.report import gather, render_html

TAGS = {
    "html",
    "caption",
    "del",
    "ins",
    "kbd",
    "head",
    "meta",
    "title",
    "link",
    "style",
    "body",
    "a",
    "header",
    "div",
    "svg",
    "line",
    "circle",
    "path",
    "text",
    "g",
    "span",
    "nav",
    "button",
    "main",
    "section",
    "p",
    "h1",
    "h2",
    "h3",
    "h4",
    "aside",
    "b",
    "i",
    "dl",
    "dt",
    "dd",
    "ul",
    "li",
    "ol",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "article",
    "figure",
    "figcaption",
    "mark",
    "label",
    "select",
    "option",
    "input",
    "bdi",
    "details",
    "summary",
    "time",
    "code",
    "pre",
    "footer",
    "script",
}
VOID = {"meta", "link", "input"}


class Page(HTMLParser):
    """Collects the elements of a page, with SVG `title`s apart from the page's title."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text, self.unbalanced = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def html(run_folder):
    return render_html(gather(run_folder.store, run_folder.layout))


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def hostile_html(hostile_data):
    return render_html(hostile_data)


@pytest.fixture(scope="module")
def hostile_page(hostile_html):
    return Page(hostile_html)


def test_hostile_answers_add_no_element_and_no_handler(hostile_page):
    page = hostile_page
    assert {tag for tag, _ in page.tags} <= TAGS
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert not [name for name in attributes if name.startswith("on")]
    assert "style" not in attributes
    assert page.unbalanced == []
    assert page.open == []


def test_hostile_answers_are_there_to_be_read(hostile_page):
    text = "".join(hostile_page.text)
    for piece in ("<script>window.pwned = 1</script>", "</style><style>body", "javascript:alert(1)", "{{ 7 * 7 }}"):
        assert piece in text
    assert "[U+202E]" in text
    assert "\u202e" not in text
    assert "␛[31m" in text


def test_long_texts_are_cut_with_a_mark(hostile_html):
    assert "[cut: 98,800 more characters]" in hostile_html
    assert "w" * 3001 not in hostile_html


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            if name in attrs:
                assert attrs[name].startswith(("#", "data:image/svg+xml,")), (tag, attrs)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert sum(tag == "style" for tag, _ in page.tags) == 1


def test_the_policy_names_exactly_the_script_and_style_of_the_page(html, page):
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert html.index("Content-Security-Policy") < html.index("<style>") < html.index("<script>")


def test_without_script_every_sample_is_shown(page):
    samples = [a for t, a in page.tags if t == "article" and "sample" in a.get("class", "").split()]
    assert len(samples) == 60
    assert not any("hidden" in a for a in samples)
    assert any(t == "div" and a.get("id") == "filters" and "hidden" in a for t, a in page.tags)


def test_landmarks_headings_and_names(page):
    names = [tag for tag, _ in page.tags]
    for tag in ("main", "header", "nav", "footer", "h1"):
        assert names.count(tag) >= 1
    assert names.count("h1") == names.count("main") == 1
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    assert links <= set(ids)
    assert all("scope" in a for t, a in page.tags if t == "th")
    assert all("aria-label" in a for t, a in page.tags if t == "svg" and a.get("role") == "img")
    assert next(a for t, a in page.tags if t == "html")["lang"] == "en"


def test_the_note_on_the_data_stands_in_the_first_section(html):
    assert html.index("All rows are generated") < html.index('id="scores"')


def test_ten_checkpoints_and_hostile_texts_stay_well_under_a_megabyte(make_run, tmp_path):
    run = make_run(tmp_path, every=100, rows=30, hostile=True)
    assert len(render_html(gather(run.store, run.layout)).encode()) < 500_000


def test_a_raw_measure_gets_its_own_axis_and_direction(make_run, tmp_path):
    run = make_run(tmp_path, skill={"reviews": (0.3, 0.95)}, metrics={"reviews": ["mae", "accuracy"]}, rows=60)
    data = gather(run.store, run.layout)
    task = data.tasks[0]
    assert task.primary_metric.scale == "raw"
    assert task.difference.value < 0 < task.difference.gain
    assert task.difference.verdict == "better"
    assert "lower is better" in render_html(data)


def test_parts_by_length_and_label_are_shown_where_there_are_several(html, page):
    assert "Prompt tokens" in html
    assert html.count("Reference label") == 2  # of the rating alone: as caption and as heading
    text = "".join(page.text)
    assert "31-96" in text


def test_twenty_tasks_and_ten_checkpoints_with_the_longest_texts_stay_below_five_megabytes(make_run, tmp_path):
    """Every sample as long as a report shows it, prose that agrees and differs word by word."""
    run = make_run(tmp_path, rows=40, steps=1000, every=100)
    data = gather(run.store, run.layout)
    assert len(data.steps) == 11  # and before
    words = " ".join(f"word{i % 7} other{i % 5}" for i in range(400))

    def longest(sample):
        changed = words.replace("word3", "said")
        return sample.model_copy(
            update={
                "input": words[:2000],
                "references": [words[i : i + 1200] for i in range(3)],
                "before": changed[:1200],
                "after": changed[600:1800],
            }
        )

    tasks = [
        task.model_copy(update={"name": f"{task.name}-{n}", "samples": [longest(s) for s in task.samples]})
        for n in range(4)
        for task in data.tasks
    ][:20]
    assert min(len(task.samples) for task in tasks) == 10
    html = render_html(data.model_copy(update={"tasks": tasks}))
    assert 500_000 < len(html.encode()) < 5_000_000
