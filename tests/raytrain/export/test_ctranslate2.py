"""CTranslate2 answers like the model it was made from, and how far is written beside it."""

import json

import pytest

from raytrain.export.agreement import compare_answers
from raytrain.export.run_export import export_run
from raytrain_core.errors import DataError


@pytest.mark.parametrize(("quantization", "least"), [("float32", 0.9), ("int8", 0.0), ("bfloat16", 0.0)])
def test_a_conversion_is_compared_with_the_model(finished, quantization, least):
    export_run(finished.store, finished.layout, to=str(finished.out), form="ctranslate2", quantization=quantization)
    report = json.loads((finished.out / "conversion-report.json").read_text())
    assert 12 < report["prompts"] <= 100
    # A random model is often near a tie, which another order of additions decides otherwise.
    assert least <= report["exact"] <= 1
    low, high = report["chrf_interval"]
    assert low <= report["chrf"] <= high
    assert report["quantization"] == quantization
    card = (finished.out / "README.md").read_text()
    assert f"On {report['prompts']} prompts" in card
    assert "library_name: ctranslate2" in card
    assert (finished.out / "generation_config.json").is_file()


def test_the_agreement_of_answers():
    found = compare_answers(["ab", "cd", "", "efgh"], ["ab", "xy", "", "efgx"], "test rows")
    assert found.exact == 0.5
    low, high = found.exact_interval
    assert low == pytest.approx(0.0676, abs=1e-3)  # Clopper and Pearson, 2 of 4
    assert high == pytest.approx(0.9324, abs=1e-3)
    assert 0.5 < found.chrf < 1
    assert found.differing == (("cd", "xy"), ("efgh", "efgx"))
    assert "differing" not in found.as_json()


def test_no_rows_to_compare_on():
    with pytest.raises(DataError, match="no rows to compare"):
        compare_answers([], [], "test rows")
