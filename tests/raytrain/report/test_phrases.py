import pytest

from raytrain.report.model import Difference, Interval, Metric, Task, Training
from raytrain.report.phrases import compact, duration, interval, listing, number, probe_fate, summary, task_sentence


def task(
    name="t", before=0.5, after=0.7, low=0.1, high=0.3, *, probe=False, better="higher", scale="percent", rows=100
):
    metric = Metric(
        name="accuracy",
        label="accuracy",
        better=better,
        scale=scale,
        before=Interval(value=before),
        after=Interval(value=after),
    )
    gain = (after - before) * (1 if better == "higher" else -1)
    verdict = "noise" if low <= 0 <= high else "better" if gain > 0 else "worse"
    difference = Difference(value=after - before, low=low, high=high, gain=gain, rows=rows, verdict=verdict)
    return Task(
        name=name,
        type="text",
        type_label="free text",
        probe=probe,
        primary_metric=metric,
        split="test",
        rows=rows,
        scored=rows,
        difference=difference,
        sentence=task_sentence(metric, difference, probe=probe),
    )


@pytest.mark.parametrize(
    ("value", "scale", "sign", "text"),
    [
        (0.3334, "percent", False, "33.3"),
        (-0.02, "percent", True, "−2.0"),
        (0.02, "percent", True, "+2.0"),
        (-0.0001, "percent", True, "±0.0"),
        (-0.0001, "percent", False, "0.0"),
        (1.234, "raw", False, "1.23"),
        (None, "percent", True, "–"),
    ],
)
def test_numbers(value, scale, sign, text):
    assert number(value, scale, sign=sign) == text


def test_intervals_durations_counts_and_lists():
    assert interval(-0.1, 0.25, "percent", sign=True) == "[−10.0, +25.0]"
    assert interval(None, 0.25, "percent") == ""
    assert [duration(s) for s in (59.4, 60, 303, 7800)] == ["59 s", "1 min", "5 min 3 s", "2 h 10 min"]
    assert [compact(n) for n in (950, 12_340, 4_560_000)] == ["950", "12.3 k", "4.56 M"]
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing([str(i) for i in range(20)], most=4) == "0, 1, 2 and 17 more"


def test_a_difference_whose_interval_holds_zero_is_called_noise():
    assert "could be chance" in task(after=0.51, low=-0.05, high=0.07).sentence
    assert "more than chance" in task().sentence


def test_what_became_of_a_probe():
    assert probe_fate(task(before=0.8, after=0.1, low=-0.8, high=-0.6, probe=True)) == "mostly"
    assert probe_fate(task(before=0.8, after=0.6, low=-0.3, high=-0.1, probe=True)) == "partly"
    assert probe_fate(task(before=0.8, after=0.79, low=-0.05, high=0.03, probe=True)) == "kept"
    assert probe_fate(task(probe=True)) == "improved"
    assert (
        probe_fate(task(before=1.0, after=2.0, low=0.5, high=1.5, probe=True, better="lower", scale="raw")) == "partly"
    )


def test_a_kept_probe_says_how_much_may_still_be_lost():
    assert "hardly more than 5.0" in task(before=0.8, after=0.79, low=-0.05, high=0.03, probe=True).sentence
    # nothing changed in any of 100 rows: up to 3/100 is still possible
    assert "hardly more than 3.0" in task(before=0.8, after=0.8, low=0.0, high=0.0, probe=True).sentence


def test_a_skill_that_was_not_there_cannot_be_forgotten():
    absent = task(before=0.0, after=0.0, low=0.0, high=0.0, probe=True)
    assert probe_fate(absent) == "nothing"
    assert "nothing to forget" in absent.sentence
    assert lead(task("a"), absent) == "After fine-tuning the model is better at the trained task."


def lead(*tasks):
    return summary(model="m", tasks=tasks, training=Training(), leaks=[], missing=[]).lead


def test_the_lead_counts_what_can_be_shown_and_nothing_else():
    gained, lost = task("a"), task("b", after=0.3, low=-0.3, high=-0.1)
    noise = task("c", after=0.51, low=-0.05, high=0.07)
    kept = task("k", before=0.8, after=0.79, low=-0.05, high=0.03, probe=True)
    gone = task("g", before=0.8, after=0.1, low=-0.8, high=-0.6, probe=True)
    assert lead(gained) == "After fine-tuning the model is better at the trained task."
    assert "better at 1 of 3 trained tasks and worse at 1 of 3" in lead(gained, lost, noise)
    assert "no trained task differs" in lead(noise)
    assert "mostly forgot 1 of 2 other skills" in lead(gained, kept, gone)
    assert "no loss can be shown" in lead(gained, kept)


def test_warnings_name_baselines_and_rows_that_were_not_scored():
    below = task("a").model_copy(update={"below_baseline": "copy", "scored": 90})
    found = summary(model="m", tasks=[below], training=Training(), leaks=["A leak."], missing=["Mind this."]).warnings
    assert found[0].startswith("a: the score after training is below its baseline, copying the input")
    assert "only 90 of 100 rows" in found[1]
    assert found[2:] == ["A leak.", "Mind this."]
