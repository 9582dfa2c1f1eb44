"""Renders reports as Markdown for pull requests: the same figures as the HTML, without charts."""

from collections.abc import Iterator, Sequence
from typing import Literal

from raytrain.report.formatting import format_interval, format_score
from raytrain.report.markdown_readings import confusion_table, entity_table
from raytrain.report.markdown_text import escape, fence, table
from raytrain.report.model import Interval, ReportData, Sample, Slice, Task, WithoutTwins
from raytrain.report.preference import preference_sentence
from raytrain.report.published import published_section
from raytrain.report.verdicts import flags, verdict_label

_SAMPLES = 3  # per task; the HTML and the JSON contain all


def render_markdown(data: ReportData) -> str:
    """Renders the report as GitHub-flavoured Markdown.

    Untrusted text is fenced or escaped.
    """
    parts = [
        f"# {escape(data.run)}: fine-tuning report",
        f"**{escape(data.summary.lead)}**",
    ]
    if data.data.note:
        parts.append(f"> **A note on the data.** {escape(data.data.note)}")
    parts += [escape(s) for s in data.summary.sentences]
    parts += [preference_sentence(p) for review in data.reviews for p in review.preferences if p.task is None]
    if data.summary.warnings:
        parts.append("\n".join(["**Keep in mind:**", "", *(f"- {escape(w)}" for w in data.summary.warnings)]))
    if data.trained:
        parts += ["## What training changed", _overview(data.trained)]
    if data.probes:
        parts += ["## What was kept or forgotten", _overview(data.probes)]
        parts += ["\n".join(f"- **{escape(t.name)}**: {escape(t.sentence)}" for t in data.probes)]
    parts += published_section(data.published)
    if data.steps:
        parts += [
            "## Checkpoints",
            "Before and after are scored on test rows, checkpoints on validation rows.",
            _course(data),
        ]
    parts += ["## Samples"]
    for task in data.tasks:
        for sample in _varied(task.samples):
            parts.append(_sample(task, sample))
    parts += ["## Every metric", _metrics(data.tasks)]
    parts += _answers_read(data.tasks)
    if any(_parts(t) for t in data.tasks):
        parts += ["## By template, length and label", "Each part has few rows, so expect some spread by chance."]
        parts += [_breakdown(data.tasks)]
    if data.data.tasks:
        parts += ["## Data", _data(data)]
    parts += [
        "## Run",
        _run(data),
        "<details><summary>The job</summary>",
        fence(data.job_yaml, "yaml"),
        "</details>",
    ]
    return "\n\n".join(parts) + "\n"


def _overview(tasks: Sequence[Task]) -> str:
    rows = []
    for t in tasks:
        h, d = t.primary_metric, t.difference
        change = format_score(d.value if d else None, h.scale, sign=True)
        span = format_interval(d.low, d.high, h.scale, sign=True) if d else ""
        best = "; ".join(f"{b.name} {format_score(b.value, h.scale)}" for b in t.baselines)
        flag = f" ({', '.join(flags(t))})" if flags(t) else ""
        rows.append(
            [
                f"**{escape(t.name)}** ({t.type_label})",
                h.label + (", lower is better" if h.better == "lower" else ""),
                verdict_label(t) + flag,
                format_score(h.before.value if h.before else None, h.scale),
                f"**{format_score(h.after.value if h.after else None, h.scale)}**",
                f"{change} {span}".strip().replace("[", "\\["),
                escape(best) or "–",
            ]
        )
    head = ["Task", "Metric", "Verdict", "Before", "After", "Change, 95 % interval", "Baselines"]
    return table(head, rows, numbers_from=3)


def _course(data: ReportData) -> str:
    rows = []
    for t in data.tasks:
        at = {p.step: p.value for p in t.validation}
        scale = t.primary_metric.scale
        rows.append(
            [
                escape(t.name) + (" (probe)" if t.probe else ""),
                format_score(t.primary_metric.before.value if t.primary_metric.before else None, scale),
                *(format_score(at.get(step), scale) for step in data.steps),
                format_score(t.primary_metric.after.value if t.primary_metric.after else None, scale),
            ]
        )
    return table(["Task", "Before", *(f"{s:,}" for s in data.steps), "After"], rows)


def _varied(samples: Sequence[Sample]) -> list[Sample]:
    """Selects one sample of each kind first, then fills up in order."""
    firsts = list({s.kind: s for s in reversed(samples)}.values())
    rest = [s for s in samples if s not in firsts]
    kept = [*firsts, *rest][:_SAMPLES]
    return [s for s in samples if s in kept]


_KINDS = {"gain": "largest gain", "loss": "largest loss", "random": "random draw"}


def _sample(task: Task, sample: Sample) -> str:
    scale = task.primary_metric.scale
    moved = f"{format_score(sample.before_score, scale)} → {format_score(sample.after_score, scale)}"
    lines = [
        f"<details><summary>{escape(task.name)}, {_KINDS[sample.kind]}: {task.primary_metric.label} {moved}</summary>"
    ]
    lines += ["Prompt:", fence(sample.input), "Reference:", *(fence(r) for r in sample.references)]
    for label, answer in (("Before", sample.before), ("After", sample.after)):
        lines += [f"{label}:" if answer is not None else f"{label}: not scored"]
        lines += [fence(answer)] if answer is not None else []
    return "\n\n".join([*lines, "</details>"])


def _metrics(tasks: Sequence[Task]) -> str:
    rows = []
    for t in tasks:
        for metric in t.metrics:
            cells = [_value(found, metric.scale) for found in (metric.before, metric.after)]
            how = escape(metric.protocol or "–")
            if metric.reference is not None:
                how += f"; score of the references: {format_score(metric.reference, metric.scale)}"
            if metric.unparsable is not None:
                how += f"; {100 * metric.unparsable:.1f} % of the answers could not be read"
            if metric.error:
                how += f"; **{metric.rows or 0} of {t.rows} rows**: {escape(metric.error)}"
            rows.append([escape(t.name), metric.label, how, *cells])
        if t.without_twins is not None:
            rows.append(_without_twins(t, t.without_twins))
    return table(["Task", "Metric", "Protocol", "Before", "After"], rows, numbers_from=3)


def _without_twins(task: Task, found: WithoutTwins) -> list[str]:
    metric = task.primary_metric
    cells = [_value(one, metric.scale) for one in (found.before, found.after)]
    return [escape(task.name), f"{metric.label} without near-twins", escape(found.sentence), *cells]


def _value(found: Interval | None, scale: Literal["percent", "raw"]) -> str:
    span = format_interval(found.low, found.high, scale) if found else ""
    return f"{format_score(found.value if found else None, scale)} {span}".strip().replace("[", "\\[")


def _answers_read(tasks: Sequence[Task]) -> list[str]:
    """What answers were read as: the confusion of labels, and entities by type."""
    tables = [confusion_table(t.name, t.confusion) for t in tasks if t.confusion]
    tables += [entity_table(t.name, t.entity_types) for t in tasks if t.entity_types]
    return ["## What answers were read as", *tables] if tables else []


def _parts(task: Task) -> list[tuple[str, Slice]]:
    """Returns (kind, slice) for every way to divide a task's rows into several parts."""
    templates = [Slice(name=f"{w.template + 1}", rows=w.rows, before=w.before, after=w.after) for w in task.templates]
    kinds = (("template", templates), ("prompt tokens", task.by_length), ("label", task.by_label))
    return [(kind, part) for kind, parts in kinds if len(parts) > 1 for part in parts]


def _breakdown(tasks: Sequence[Task]) -> str:
    rows = [
        [
            escape(t.name),
            f"{kind} {escape(part.name)}",
            f"{part.rows:,}",
            format_score(part.before, t.primary_metric.scale),
            format_score(part.after, t.primary_metric.scale),
        ]
        for t in tasks
        for kind, part in _parts(t)
    ]
    return table(["Task", "Part", "Rows", "Before", "After"], rows, numbers_from=2)


def _data(data: ReportData) -> str:
    rows = [
        [
            escape(card.task) + (" (probe)" if card.probe else ""),
            split.split,
            f"{100 * card.share:.1f} %" if card.share is not None and split.split == "train" else "",
            f"{split.examples:,}",
            str(split.templates),
            _length(split.source_tokens_mean, split.source_tokens_max),
            _length(split.target_tokens_mean, split.target_tokens_max),
            "–" if split.duplicates is None else f"{split.duplicates:,}",
        ]
        for card in data.data.tasks
        for split in card.splits
    ]
    head = ["Task", "Split", "Share", "Rows", "Templates", "Tokens in", "Tokens out", "Duplicates"]
    return "\n\n".join([table(head, rows, numbers_from=2), *_happened(data)])


def _happened(data: ReportData) -> Iterator[str]:
    """What happened to the rows, folded."""
    rows = [
        [escape(card.task), escape(one.what), one.effect, f"{one.count:,}", "; ".join(map(escape, one.first))]
        for card in data.data.tasks
        for one in card.happened
    ]
    if rows:
        yield "<details><summary>What happened to the rows, from the files to the model</summary>"
        yield table(["Task", "What", "Effect", "Times", "First places"], rows, numbers_from=5)
        yield "</details>"


def _length(mean: float | None, most: int | None) -> str:
    return "–" if mean is None or most is None else f"{mean:.0f}, at most {most:,}"


def _run(data: ReportData) -> str:
    lines = [f"- Stored at `{data.uri}`", f"- Base model: {escape(data.model)} {data.model_digest or ''}".rstrip()]
    if data.data.digest:
        lines.append(f"- Shard set `{data.data.digest}`")
    lines += [f"- {escape(k)} {escape(v)}" for k, v in data.versions.items()]
    lines += [f"- {escape(e.message or e.kind)}" for e in data.events if e.warning]
    return "\n".join(lines)
