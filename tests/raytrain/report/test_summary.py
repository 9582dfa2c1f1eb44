from raytrain.report.model import Training
from raytrain.report.summary import summarize
from raytrain.report.verdicts import probe_fate, verdict_label


def lead(*tasks):
    return summarize(model="m", tasks=tasks, training=Training(), leaks=[], missing=[]).lead


def test_a_skill_that_scored_zero_before_cannot_be_forgotten(make_task):
    absent = make_task(before=0.0, after=0.0, low=0.0, high=0.0, probe=True)
    assert probe_fate(absent) == "nothing"
    assert "nothing to forget" in absent.sentence
    assert lead(make_task("a"), absent) == "After fine-tuning, the model is better at 1 of 1 trained task."


def test_the_lead_counts_what_can_be_shown_and_nothing_else(make_task):
    gained, lost = make_task("a"), make_task("b", after=0.3, low=-0.3, high=-0.1)
    noise = make_task("c", after=0.51, low=-0.05, high=0.07)
    kept = make_task("k", before=0.8, after=0.79, low=-0.05, high=0.03, probe=True)
    gone = make_task("g", before=0.8, after=0.1, low=-0.8, high=-0.6, probe=True)
    assert lead(gained) == "After fine-tuning, the model is better at 1 of 1 trained task."
    assert "better at 1 of 3 trained tasks, worse at 1 of 3" in lead(gained, lost, noise)
    assert "better at 0 of 1 trained task" in lead(noise)
    assert "mostly forgot 1 of 2 other skills" in lead(gained, kept, gone)
    assert "no loss can be shown" in lead(gained, kept)


def test_better_needs_the_trivial_baseline_too(make_task):
    """A model that answers like the commonest label is not better, however low it started."""
    like_a_constant = make_task("reviews", before=0.1, after=0.54, low=0.3, high=0.5, baseline="noise")
    above = make_task("code", baseline="above")
    below = make_task("c#", before=0.1, after=0.23, low=0.1, high=0.2, baseline="below")
    assert like_a_constant.verdict == below.verdict == "not-above-baseline"
    assert verdict_label(like_a_constant) == "not above baseline"
    assert lead(like_a_constant, above, below) == (
        "After fine-tuning, the model is better at 1 of 3 trained tasks, above the trivial baseline at 1 of 3."
    )
    noise = make_task("d", after=0.51, low=-0.05, high=0.07, baseline="above")
    assert "better at 0 of 1 trained task, above the trivial baseline at 1 of 1" in lead(noise)


def test_too_few_rows_are_said(make_task):
    few = make_task("tiny", rows=5)
    few = few.model_copy(update={"verdict": "few", "difference": few.difference.model_copy(update={"verdict": "few"})})
    assert "with too few rows to tell at 1 of 1" in lead(few)
    found = summarize(model="m", tasks=[few], training=Training(), leaks=[], missing=[]).warnings
    assert found == ["tiny: 5 rows in the test set, too few to tell whether a difference is more than chance."]


def test_warnings_name_baselines_and_rows_that_were_not_scored(make_task):
    below = make_task("a", baseline="below").model_copy(update={"scored": 90})
    found = summarize(model="m", tasks=[below], training=Training(), leaks=["A leak."], missing=["Mind this."]).warnings
    assert found[0].startswith("a: the score after training is below its baseline, copying the input")
    assert found[1] == "A leak."
    assert "only 90 of 100 rows" in found[2]
    assert found[3:] == ["Mind this."]


def test_answers_that_could_not_be_read_and_splits_that_differ_are_told(make_task):
    task = make_task("a")
    metric = task.primary_metric.model_copy(update={"unparsable": 0.125})
    told = task.model_copy(update={"primary_metric": metric, "split_gap": "The same model scores so and so."})
    found = summarize(model="m", tasks=[told], training=Training(), leaks=[], missing=[]).warnings
    assert found == [
        "a: 12.5 % of the answers could not be read and count as wrong: the score is that of a format too.",
        "a: The same model scores so and so.",
    ]
    few = metric.model_copy(update={"unparsable": 0.01})
    quiet = task.model_copy(update={"primary_metric": few})
    assert summarize(model="m", tasks=[quiet], training=Training(), leaks=[], missing=[]).warnings == []
