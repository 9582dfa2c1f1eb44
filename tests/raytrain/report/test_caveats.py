"""Sentences about scores that mean less than they seem to."""

from raytrain.report.caveats import _imperfect_references, caveats
from raytrain.report.model import Metric, Task


def test_breakdowns_that_failed_are_told(make_task):
    task = make_task().model_copy(update={"unmade": ["the scores by label could not be made: KeyError: 'label'"]})
    assert "t: the scores by label could not be made: KeyError: 'label'" in caveats([task])


def test_references_that_no_model_can_reach_are_told():
    """As where a reference has no word that ROUGE counts."""
    metric = Metric(name="rougeL", label="ROUGE-L", better="higher", scale="percent")
    task = Task.model_construct(name="notes", primary_metric=metric)
    assert list(_imperfect_references(task)) == []
    task = Task.model_construct(name="notes", primary_metric=metric.model_copy(update={"reference": 0.5}))
    (told,) = _imperfect_references(task)
    assert told == "notes: the references themselves score 50.0 by ROUGE-L, so no model can reach a perfect score."
