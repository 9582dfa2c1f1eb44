import xml.etree.ElementTree as ET

import pytest

from raytrain.report import gather
from raytrain.report.contrast import Arm, render_contrast

PROBES = ("questions", "spanish")


@pytest.fixture(scope="module")
def arms(make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    skill = {"dialogues": (0.1, 0.8), "reviews": (0.5, 0.95), "questions": (0.85, 0.8)}
    forgetful = skill | {"reviews": (0.5, 0.1), "questions": (0.85, 0.05)}
    alone = make_run(folder, name="alone", skill=forgetful, probes=("reviews", *PROBES), rows=40, note="Generated.")
    mixture = make_run(folder, name="mixture", skill=skill, rows=40, note="Generated.")
    return [
        Arm("summaries <alone>", gather(alone.store, alone.layout)),
        Arm("mixture", gather(mixture.store, mixture.layout)),
    ]


@pytest.fixture(scope="module")
def contrast(arms):
    return render_contrast(arms)


def test_the_svg_stands_alone(contrast):
    root = ET.fromstring(contrast.svg)
    name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{name}svg"
    values = [t.text for t in root.iter(f"{name}text") if t.get("class") == "t-value"]
    assert len(values) == 3 * 2
    assert "summaries <alone>" in [t.text for t in root.iter(f"{name}text")]
    # reviews and questions were not trained on by the first run, questions not by the second
    assert len(list(root.iter(f"{name}polygon"))) == 3


def test_the_page_says_what_each_run_forgot(contrast):
    assert "summaries &lt;alone&gt;" in contrast.html
    assert "<alone>" not in contrast.html
    assert "questions: mostly forgotten" in contrast.html
    assert contrast.html.count("Generated.") == 1
    assert "default-src &#39;none&#39;" in contrast.html


def test_the_table_marks_who_trained_on_what(contrast):
    rows = {line.split("|")[1].strip(): line for line in contrast.markdown.splitlines() if line.startswith("| **")}
    assert rows["**reviews**"].count("·") == 1
    assert rows["**dialogues**"].count("·") == 2
    assert rows["**questions** (probe)"].count("·") == 0


def test_probes_come_last(contrast):
    order = [line.split("|")[1].strip() for line in contrast.markdown.splitlines() if line.startswith("| **")]
    assert order == ["**dialogues**", "**reviews**", "**questions** (probe)"]


def test_runs_of_different_models_are_not_compared(arms):
    other = Arm("other", arms[1].data.model_copy(update={"model_digest": "00" * 32, "model": "another"}))
    with pytest.raises(ValueError, match="different models"):
        render_contrast([arms[0], other])
    with pytest.raises(ValueError, match="no runs"):
        render_contrast([])
