"""How answers were read: confusion matrix, entity types, lengths, and the page that shows them."""

import re

import pytest

from raytrain.report import gather, render_html
from raytrain.report.model import Confusion
from raytrain.report.readings import largest_mistakes, shade


@pytest.fixture(scope="module")
def data(run_folder):
    return gather(run_folder.store, run_folder.layout)


@pytest.fixture(scope="module")
def html(data):
    return render_html(data)


def by_name(data):
    return {task.name: task for task in data.tasks}


def test_label_tasks_have_a_confusion_matrix_of_all_rows(data, html):
    tasks = by_name(data)
    confusion = tasks["reviews"].confusion
    assert confusion.labels == ["1", "2", "3", "4", "5"]
    assert sum(map(sum, confusion.counts)) == tasks["reviews"].rows
    assert [name for name, task in tasks.items() if task.confusion] == ["reviews"]
    table = re.search(r'<table class="confusion.*?</table>', html, re.DOTALL)[0]
    assert [int(n) for n in re.findall(r">(\d+)</td>", table)] == [n for row in confusion.counts for n in row if n]


def test_many_labels_become_a_list_of_the_largest_mistakes(data):
    labels = [f"intent {n}" for n in range(77)]
    counts = [[0] * 78 for _ in labels]
    counts[3][5], counts[4][77], counts[6][6] = 4, 9, 30
    confusion = Confusion(labels=labels, counts=counts)
    assert [(m.label, m.read_as, m.rows) for m in largest_mistakes(confusion)] == [
        ("intent 4", "no label", 9),
        ("intent 3", "intent 5", 4),
    ]
    task = by_name(data)["reviews"].model_copy(update={"confusion": confusion})
    html = render_html(data.model_copy(update={"tasks": [task]}))
    assert "of 77 labels" in html
    assert '<table class="confusion' not in html


def test_cells_are_blue_where_right_and_orange_where_wrong():
    confusion = Confusion(labels=["a", "b"], counts=[[9, 1, 0], [5, 0, 5]])
    assert [shade(confusion, 0, j) for j in range(3)] == ["up5", "down1", ""]
    assert [shade(confusion, 1, j) for j in range(3)] == ["down3", "", "down3"]


def test_entities_have_a_table_by_type(data, html):
    kinds = by_name(data)["entities"].entity_types
    assert [kind.name for kind in kinds] == ["LOC", "PER", "not an entity"]
    assert (kinds[0].precision, kinds[0].recall, kinds[2].predicted) == (0.968, 0.469, 3)
    table = html[html.index("Entities by type") :]
    assert table.index("LOC") < table.index("46.9") < table.index("PER") < table.index("not an entity")


def test_lengths_and_what_stands_at_the_limit_are_shown(html):
    table = re.search(r"Lengths in tokens.*?</table>", html, re.DOTALL)[0]
    cells = re.findall(r'data-label="([^"]*)">([^<]*)<', table)
    assert cells[:5] == [
        ("median", "50"),
        ("mean", "52"),
        ("95 % below", "80"),
        ("longest", "104"),
        ("at the limit", "0.4 %"),
    ]
    assert ("at the limit", "1.0 %") in cells


def test_a_label_is_untrusted_text(data):
    hostile = Confusion(labels=["<script>", "\u202eb"], counts=[[1, 0, 0], [0, 1, 0]])
    task = by_name(data)["reviews"].model_copy(update={"confusion": hostile})
    html = render_html(data.model_copy(update={"tasks": [task]}))
    assert "<bdi>&lt;script&gt;</bdi>" in html
    assert "<bdi>[U+202E]b</bdi>" in html
