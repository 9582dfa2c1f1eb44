"""Published scores stand beside a run's own, with source and both protocols."""

from raytrain.benchmarks import refusals
from raytrain.benchmarks.published import published_scores
from raytrain.report.model import Published
from raytrain.report.published import published_section


def test_every_published_score_is_of_a_benchmark_and_a_metric_that_exist() -> None:
    for name in ("mmlu", "samsum"):
        found = published_scores(name)
        assert found
        assert {score.metric for score in found} <= set(refusals.metric_names(name))
        assert all(0 < score.value < 1 and score.source and score.protocol and score.difference for score in found)
    assert published_scores("boolq") == []


def test_the_table_names_source_and_protocols() -> None:
    (score,) = published_scores("mmlu")
    row = Published(
        probe="mmlu",
        metric="acc",
        model=score.model,
        value=score.value,
        before=0.4,
        after=0.38,
        source=score.source,
        protocol=score.protocol,
        difference=score.difference,
    )
    heading, note, table = published_section([row])
    assert heading == "## Published scores"
    assert "Their protocols differ" in note
    for part in ("40.0", "38.0", "45.1", "google/flan-t5-large", "arXiv 2210.11416", "five-shot"):
        assert part in table
    assert published_section([]) == []
