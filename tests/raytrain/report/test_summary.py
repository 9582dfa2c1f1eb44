from raytrain.report.model import Training
from raytrain.report.summary import summarize
from raytrain.report.verdicts import probe_fate


def lead(*tasks):
    return summarize(model="m", tasks=tasks, training=Training(), leaks=[], missing=[]).lead


def test_a_skill_that_scored_zero_before_cannot_be_forgotten(make_task):
    absent = make_task(before=0.0, after=0.0, low=0.0, high=0.0, probe=True)
    assert probe_fate(absent) == "nothing"
    assert "nothing to forget" in absent.sentence
    assert lead(make_task("a"), absent) == "After fine-tuning, the model is better at the trained task."


def test_the_lead_counts_what_can_be_shown_and_nothing_else(make_task):
    gained, lost = make_task("a"), make_task("b", after=0.3, low=-0.3, high=-0.1)
    noise = make_task("c", after=0.51, low=-0.05, high=0.07)
    kept = make_task("k", before=0.8, after=0.79, low=-0.05, high=0.03, probe=True)
    gone = make_task("g", before=0.8, after=0.1, low=-0.8, high=-0.6, probe=True)
    assert lead(gained) == "After fine-tuning, the model is better at the trained task."
    assert "better at 1 of 3 trained tasks and worse at 1 of 3" in lead(gained, lost, noise)
    assert "no trained task differs" in lead(noise)
    assert "mostly forgot 1 of 2 other skills" in lead(gained, kept, gone)
    assert "no loss can be shown" in lead(gained, kept)


def test_warnings_name_baselines_and_rows_that_were_not_scored(make_task):
    below = make_task("a").model_copy(update={"below_baseline": "copy", "scored": 90})
    found = summarize(model="m", tasks=[below], training=Training(), leaks=["A leak."], missing=["Mind this."]).warnings
    assert found[0].startswith("a: the score after training is below its baseline, copying the input")
    assert "only 90 of 100 rows" in found[1]
    assert found[2:] == ["A leak.", "Mind this."]
