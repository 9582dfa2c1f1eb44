"""Published scores beside those of a run's benchmarks."""

from collections.abc import Sequence

from raytrain.benchmarks.published import published_scores
from raytrain.config.job import FineTuneJob
from raytrain.evaluation.metrics.harness import SUFFIX
from raytrain.report.formatting import format_score
from raytrain.report.markdown_text import escape, table
from raytrain.report.metric_names import metric_label
from raytrain.report.model import Published, Task

PUBLISHED_NOTE = (
    "What others published for these benchmarks. Their protocols differ, so a gap of a few points means nothing: "
    "compare before with after instead."
)


def beside(job: FineTuneJob, tasks: Sequence[Task]) -> list[Published]:
    """Returns the published scores of the benchmarks that the job scores, in its order."""
    scored = {task.name: task for task in tasks}
    return [
        Published(
            probe=benchmark.probe,
            metric=score.metric,
            model=score.model,
            value=score.value,
            before=metric.before.value if metric.before else None,
            after=metric.after.value if metric.after else None,
            source=score.source,
            protocol=score.protocol,
            difference=score.difference,
        )
        for benchmark in job.spec.probes
        if benchmark.probe in scored
        for score in published_scores(benchmark.benchmark)
        for metric in scored[benchmark.probe].metrics
        if metric.name == f"{score.metric}{SUFFIX}"
    ]


def published_section(scores: Sequence[Published]) -> list[str]:
    """Returns the parts of a Markdown report: heading, note and table; none without scores."""
    rows = [
        [
            escape(p.probe),
            metric_label(p.metric),
            format_score(p.before, "percent"),
            format_score(p.after, "percent"),
            format_score(p.value, "percent"),
            escape(p.model),
            f"{escape(p.protocol)}; {escape(p.difference)}",
            escape(p.source),
        ]
        for p in scores
    ]
    head = ["Probe", "Metric", "Before", "After", "Published", "Published model", "Protocols", "Source"]
    return ["## Published scores", PUBLISHED_NOTE, table(head, rows)] if rows else []
